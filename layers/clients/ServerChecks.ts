import { Effect, Redacted, Schema } from "effect"
import pg from "pg"
import { Standby } from "./Backends.ts"
import { sqlStateOf } from "./sqlErrors.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { sessionOptions } from "./sessionOptions.ts"

/** DATABASE_URL leads to a pooler that gives a session's statements to different server connections. */
export class PoolerInTransactionMode extends Schema.TaggedError<PoolerInTransactionMode>()("PoolerInTransactionMode", {
  message: Schema.String,
}) {}

const pooled = new PoolerInTransactionMode({
  message:
    "DATABASE_URL leads through a pooler in transaction mode, which loses session settings, prepared statements and " +
    "LISTEN: connect to Postgres itself, or to a pooler in session mode that lets the startup parameter `options` pass.",
})

interface Facts {
  readonly synchronous_commit: string
  readonly fsync: string
  readonly full_page_writes: string
  /** The server follows another one and takes no writes. */
  readonly standby: boolean
  /** Whether a server follows this one, or has a slot to do so. */
  readonly replicas: boolean
  /** Whose answer a commit waits for; empty: nobody's. */
  readonly synchronous_standby_names: string
  /** Connections that ordinary roles may have at the same time, and how many are taken. */
  readonly connections: number
  readonly taken: number
  /** Whether the startup parameter `options` reached the server. */
  readonly options_arrived: boolean
}

const factsQuery = `
  select current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes,
    pg_is_in_recovery() as standby, current_setting('synchronous_standby_names') as synchronous_standby_names,
    exists (select from pg_replication_slots where slot_type = 'physical') or exists (
      select from pg_stat_replication as sender where sender.state is distinct from 'backup'
        and not exists (select from pg_replication_slots where active_pid = sender.pid)) as replicas, current_setting('jit') = 'off' as options_arrived,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
      - coalesce(current_setting('reserved_connections', true)::integer, 0) as connections,
    (select count(*)::integer from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())
      as taken`

/** What an operator should know of a server, a sentence each. `needed`: connections that this process may open. */
export const warningsOf = (
  facts: Omit<Facts, "options_arrived" | "standby">,
  needed: number,
): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  if (facts.synchronous_commit === "off")
    warnings.push(
      "synchronous_commit is off for this database or role. This program's own sessions switch it on, because what is " +
        "acknowledged must survive a crash of Postgres: set it to on.",
    )
  if (facts.fsync === "off")
    warnings.push(
      "fsync is off: a crash of the machine can lose or corrupt acknowledged artifacts. Set fsync to on and restart Postgres.",
    )
  if (facts.full_page_writes === "off")
    warnings.push(
      "full_page_writes is off: a crash of the machine can corrupt the database. Set it to on, unless the file system writes whole pages.",
    )
  if (facts.replicas && facts.synchronous_standby_names === "")
    warnings.push(
      "Postgres has a replica, and synchronous_standby_names is empty: a failover to that replica loses artifacts that were " +
        "acknowledged. Name it there, e.g. 'FIRST 1 (replica_1)', so that a commit waits for it.",
    )
  if (facts.synchronous_standby_names !== "" && facts.synchronous_commit === "local")
    warnings.push(
      "synchronous_commit is local for this database or role: no commit waits for a replica, and a failover loses artifacts " +
        "that were acknowledged. Set it to on.",
    )
  const free = facts.connections - facts.taken
  if (free < needed)
    warnings.push(
      `Postgres has ${free} of ${facts.connections} connections left, and this process may open ${needed}: ` +
        "raise max_connections, or lower DATABASE_POOL_SIZE.",
    )
  return warnings
}

const connect = async (url: string): Promise<pg.Client> => {
  const client = new pg.Client({
    connectionString: url,
    options: sessionOptions,
    connectionTimeoutMillis: 5000,
    query_timeout: 5000,
    application_name: "artifact-plane-check",
  })
  client.on("error", () => {})
  try {
    await client.connect()
    return client
  } catch (error) {
    client.end().catch(() => {})
    // PgBouncer's "unsupported startup parameter", as a protocol violation.
    throw sqlStateOf(error) === "08P01" ? pooled : error
  }
}

const backendOf = async (client: pg.Client): Promise<number> =>
  (await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid ?? 0

/**
 * Whether two connections are served by one session of the server in turns: a backend that served the first one serves
 * the other's transaction, or the first one meets another backend meanwhile.
 */
const takesTurns = async (first: pg.Client, other: pg.Client): Promise<boolean> => {
  for (let turn = 0; turn < 3; turn++) {
    const own = await backendOf(first)
    await other.query("begin")
    // A pooler that has one session only would let the first one wait for as long as the transaction is open.
    const turns = (await backendOf(other)) === own || (await backendOf(first)) !== own
    await other.query("rollback")
    if (turns) return true
  }
  return false
}

const inspect = async (url: string): Promise<Facts> => {
  const clients: Array<pg.Client> = []
  try {
    const first = await connect(url)
    clients.push(first)
    const facts = (await first.query<Facts>(factsQuery)).rows[0]
    if (facts === undefined) throw new Error("the server did not say how it is set up")
    if (facts.standby) throw new Standby()
    const other = await connect(url)
    clients.push(other)
    if (!facts.options_arrived || (await takesTurns(first, other))) throw pooled
    return facts
  } finally {
    for (const client of clients) client.end().catch(() => {})
  }
}

/**
 * Looks at the server before the process uses it: refuses a pooler in transaction mode and a standby, and logs one line for each
 * setting that weakens what the product promises. `needed`: how many connections this process may open.
 */
export const checkServer = (options: { readonly url: Redacted.Redacted; readonly needed: number }) =>
  Effect.tryPromise({
    try: () => inspect(Redacted.value(options.url)),
    catch: (cause) =>
      cause instanceof PoolerInTransactionMode || cause instanceof Standby
        ? cause
        : new DependencyUnavailable({ dependency: "postgres", operation: "check", cause }),
  }).pipe(
    Effect.flatMap((facts) =>
      Effect.forEach(warningsOf(facts, options.needed), (line) => Effect.logWarning(line), { discard: true }),
    ),
  )
