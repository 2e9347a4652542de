import { join } from "node:path"
import { defaultDataDir, isOursAlone, makeOwn } from "./dataDir.ts"

/**
 * Where Node keeps compiled code from one start to the next; `undefined`: nowhere. It is `compile-cache` in DATA_DIR and
 * never in a shared temporary folder, because what is read back is executed. An embedded node makes the folder; a
 * production node uses it when it is there. This is read before any library is loaded, for which it is meant, so
 * `Config.ts` cannot read it.
 */
export const compileCacheDir = (): string | undefined => {
  const dataDir = process.env["DATA_DIR"] || defaultDataDir
  const embedded = !process.env["DATABASE_URL"]
  const folder = join(dataDir, "compile-cache")
  try {
    if (embedded) makeOwn(dataDir)
    if (!isOursAlone(dataDir)) return undefined
    makeOwn(folder)
    return isOursAlone(folder) ? folder : undefined
  } catch {
    // Not there, or read-only. Whether the node can run without it is checked where DATA_DIR is opened.
    return undefined
  }
}
