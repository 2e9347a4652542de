import { readdirSync } from "node:fs"
import { join } from "node:path"

/** Keys of the file store under a node's DATA_DIR, and names of its unfinished files. */
export const blobFiles = (dataDir: string): ReadonlyArray<string> =>
  readdirSync(join(dataDir, "blobs"), { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() && !entry.name.startsWith("store-") ? [entry.name.replaceAll("+", "/")] : [],
  )
