import { copyFileSync, renameSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Redis } from "ioredis"
import { fromDebian } from "./debian.ts"
import { freePort } from "./ports.ts"
import { type Spawned, privateDir, spawnRecorded, waitUntil } from "./processes.ts"

export interface RedisOptions {
  /** Keep an append-only file, synced at every write, so that a restart finds all data. Default: no. */
  readonly appendOnly?: boolean
  /** Default: noeviction. */
  readonly maxmemoryPolicy?: string
  /** Further arguments of redis-server, last so that they win. */
  readonly args?: ReadonlyArray<string>
}

export interface RedisServer {
  /** The same over all restarts. */
  readonly url: string
  readonly port: number
  readonly dir: string
  /** Ends the server; without `appendOnly` a later `start` is empty. */
  stop(): Promise<void>
  start(): Promise<void>
  restart(): Promise<void>
  kill9(): Promise<void>
  pause(): void
  resume(): void
  /** Writes all data to an RDB file and returns its path. */
  saveSnapshot(): Promise<string>
  /** Kills the server and starts it with exactly the data of a snapshot, as a failover to a stale copy would. */
  restoreSnapshot(path: string): Promise<void>
  dispose(): Promise<void>
  logs(): string
}

/** One connection for one question. */
const ask = async <A>(port: number, question: (redis: Redis) => Promise<A>): Promise<A> => {
  const redis = new Redis({
    host: "127.0.0.1",
    port,
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: 2000,
  })
  redis.on("error", () => {})
  try {
    await redis.connect()
    return await question(redis)
  } finally {
    redis.disconnect()
  }
}

const answers = async (port: number, pid: number): Promise<boolean> => {
  try {
    // The process id tells our server from another that took the port.
    return await ask(port, async (redis) => (await redis.info("server")).includes(`process_id:${pid}\r\n`))
  } catch {
    return false
  }
}

/** A Redis of one's own on loopback. Throws BackendMissing when there is none and none can be installed. */
export const startRedis = async (options: RedisOptions = {}): Promise<RedisServer> => {
  const program = await fromDebian("Redis", "redis-server", "redis-server")
  const home = privateDir("redis")
  const port = await freePort()
  const appendOnly = options.appendOnly === true
  const rdb = join(home.path, "dump.rdb")
  const args = (append: boolean): ReadonlyArray<string> => {
    const settings = {
      bind: "127.0.0.1",
      port: String(port),
      dir: home.path,
      dbfilename: "dump.rdb",
      "maxmemory-policy": options.maxmemoryPolicy ?? "noeviction",
      save: "",
      appendonly: append ? "yes" : "no",
      appendfsync: "always",
    }
    return [...Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]), ...(options.args ?? [])]
  }

  let server: Spawned | undefined
  const launch = async (append: boolean) => {
    if (server?.running() === true) return
    const started = await spawnRecorded(program, args(append), {
      cwd: home.path,
      env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" },
    })
    server = started
    await waitUntil(started, "an answer from Redis", () => answers(port, started.pid))
  }
  const current = (): Spawned => {
    if (server === undefined || !server.running()) throw new Error("this Redis is not running")
    return server
  }
  const start = () => launch(appendOnly)
  const stop = async () => server?.end("SIGTERM")
  const kill9 = () => current().end("SIGKILL")
  let snapshots = 0

  await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    dir: home.path,
    start,
    stop,
    kill9,
    restart: async () => {
      await stop()
      await start()
    },
    pause: () => void current().child.kill("SIGSTOP"),
    resume: () => void current().child.kill("SIGCONT"),
    saveSnapshot: async () => {
      await ask(port, (redis) => redis.save())
      // Moved away, for a start would load a file of this name.
      const path = join(home.path, `snapshot-${++snapshots}.rdb`)
      renameSync(rdb, path)
      return path
    },
    restoreSnapshot: async (path) => {
      if (server?.running() === true) await kill9()
      rmSync(join(home.path, "appendonlydir"), { recursive: true, force: true })
      copyFileSync(path, rdb)
      // Started with an append-only file Redis never reads the RDB file, so that file is begun after the load.
      await launch(false)
      if (appendOnly) {
        await ask(port, (redis) => redis.config("SET", "appendonly", "yes"))
        await waitUntil(current(), "the append-only file", () =>
          ask(port, async (redis) => {
            const state = await redis.info("persistence")
            return /aof_rewrite_in_progress:0/.test(state) && /aof_rewrite_scheduled:0/.test(state)
          }),
        )
      }
      rmSync(rdb, { force: true })
    },
    dispose: async () => {
      await stop()
      home.remove()
    },
    logs: () => server?.logs() ?? "",
  }
}
