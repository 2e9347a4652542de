import { chmodSync, chownSync, mkdirSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { Client } from "pg"
import { freePort } from "./ports.ts"
import { type Flavour, postgresPrograms, wantedFlavour } from "./postgresPrograms.ts"
import { type Spawned, privateDir, run, signalTree, sleep, spawnRecorded, waitUntil } from "./processes.ts"

export interface PostgresServer {
  /** Of the database `postgres`, as its superuser, over TCP on loopback; the same over all restarts. */
  readonly url: string
  readonly dataDir: string
  /** Also listens here, as a Unix socket of the same port. */
  readonly socketDir: string
  readonly port: number
  readonly flavour: Flavour
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

/** Whether a server answers there. */
export const answers = async (url: string): Promise<boolean> => {
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

export interface PostgresOptions {
  /** Whose Postgres; otherwise the one that TEST_POSTGRES names. */
  readonly flavour?: Flavour
  /** Settings for the server's command line, e.g. `{ shared_preload_libraries: "pg_stat_statements" }`. */
  readonly settings?: Readonly<Record<string, string | number>>
  /** Made as a streaming replica of this server of the same flavour, under a name of its own, e.g. `replica_1`. */
  readonly replicaOf?: { readonly primary: PostgresServer; readonly name: string }
}

/** The npm binaries serve many test files at once; a distribution's Postgres keeps its defaults. */
const ownSettings = { npm: { max_connections: 200, timezone: "UTC", fsync: "on" }, debian: {}, newest: {} }

/** `npm`: plain code points. A distribution's: a language's order of text, as its installers set it up. */
const localeOf = (flavour: Flavour): ReadonlyArray<string> =>
  flavour === "npm" ? ["--locale=C"] : ["--locale=C", "--locale-provider=icu", "--icu-locale=en-US"]

/** Copies a primary and leaves a standby behind that follows it by a slot, as the runbook does. */
export const backupOf = (host: string, port: number, name: string, dataDir: string): ReadonlyArray<string> => {
  const from = `host=${host} port=${port} user=postgres application_name=${name}`
  return ["-d", from, "-D", dataDir, "-X", "stream", "-c", "fast", "-C", "-S", name, "-R"]
}

/**
 * A native Postgres of one's own with fsync on, trusting whoever connects over loopback. As root it runs as `nobody`,
 * because Postgres refuses root. Throws BackendMissing when there are no binaries.
 */
export const startPostgres = async (given: PostgresOptions = {}): Promise<PostgresServer> => {
  const home = privateDir("postgres")
  const flavour = given.flavour ?? wantedFlavour()
  const programs = await postgresPrograms(flavour, home.path)
  const dataDir = join(home.path, "data")
  const socketDir = join(home.path, "socket")
  for (const folder of [dataDir, socketDir]) {
    mkdirSync(folder, { mode: 0o700 })
    if (isRoot) chownSync(folder, NOBODY, NOBODY)
  }
  if (isRoot) chmodSync(home.path, 0o711)
  const env = { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" }
  const plain = ["-D", dataDir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
  const made =
    given.replicaOf === undefined
      ? programs.command("initdb", [...plain, ...localeOf(flavour)])
      : programs.command("pg_basebackup", [
          ...backupOf("127.0.0.1", given.replicaOf.primary.port, given.replicaOf.name, dataDir),
          "--no-sync",
        ])
  await run(made.command, made.args, { ...made.user, cwd: dataDir, env })

  const port = await freePort()
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const settings = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: socketDir,
    ...ownSettings[flavour],
    ...given.settings,
  }
  const args = ["-D", dataDir, ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])]
  const postgres = programs.command("postgres", args)

  let server: Spawned | undefined
  const start = async () => {
    if (server?.running() === true) return
    // After a kill the kernel may hold the old shared memory for a moment; the server then refuses to start.
    for (let attempt = 1; ; attempt++) {
      const started = await spawnRecorded(postgres.command, postgres.args, { ...postgres.user, cwd: dataDir, env })
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
    flavour,
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
