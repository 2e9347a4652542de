import { readFileSync } from "node:fs"
import { Effect } from "effect"
import { Settings, type SettingsShape } from "../Config.ts"

/** How many files the system lets this process have open, sockets included. Undefined: it does not tell, or has no limit. */
export const openFilesLimit = (): number | undefined => {
  try {
    const soft = /^Max open files\s+(\d+)\s/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]
    if (soft !== undefined) return Number(soft)
  } catch {
    // Not Linux: Node's own report knows, but takes its time.
  }
  const { userLimits } = process.report.getReport() as { readonly userLimits?: Record<string, { soft: unknown }> }
  const soft = Number(userLimits?.["open_files"]?.soft)
  return Number.isSafeInteger(soft) ? soft : undefined
}

/** What the process has open for itself: the runtime, logs, listeners, the embedded database's files. */
const forItself = 128
/** Connections to Postgres besides the pool, to Redis and to other pods. */
const toOthers = 32
/** Sockets to the object store for uploads; that of a download is the one more file of its connection. */
const toStore = 132

/**
 * How many clients' connections a process may have that may have `limit` files open. Beside what it needs for itself, each
 * connection may need one more file: the one that is uploaded or read.
 */
export const mostConnections = (
  limit: number,
  { databasePoolSize, s3 }: Pick<SettingsShape, "databasePoolSize" | "s3">,
) => Math.max(8, Math.floor((limit - forItself - toOthers - databasePoolSize - (s3 === undefined ? 0 : toStore)) / 2))

/** Below this a pod runs out of connections under everyday load. */
const fewConnections = 256

/** The limit on clients' connections of this process, which a line tells; undefined: none. */
export const connectionLimit = Effect.gen(function* () {
  const limit = openFilesLimit()
  if (limit === undefined) return undefined
  const most = mostConnections(limit, yield* Settings)
  const line = `At most ${most} client connections at once, for the process may have ${limit} files open`
  yield* most < fewConnections
    ? Effect.logWarning(`${line}: raise that limit (ulimit -n).`)
    : Effect.logInfo(`${line}.`)
  return most
})
