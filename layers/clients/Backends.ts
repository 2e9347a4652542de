import { Schema } from "effect"
import type { ClientConfig } from "pg"
import pg from "pg"
import { Socket } from "node:net"

/** The far end of a connection: one process of one server, for as long as either lives. */
export interface Backend {
  /** When the server was started, in seconds since 1970 as text; another server, or the same one restarted, differs. */
  readonly server: string
  readonly pid: number
  /** When the process was started, likewise; null when the role may not see it. */
  readonly started: string | null
}

/** What a connection was answered about its own far end. */
export interface OwnBackend extends Backend {
  /** The server follows another one and takes no writes. */
  readonly standby: boolean
}

/** The address leads to a server that follows another one: a replica, or a primary that was demoted. */
export class Standby extends Schema.TaggedError<Standby>()("Standby", {}) {
  override readonly message = "DATABASE_URL leads to a standby, which takes no writes: it must lead to the primary."
}

const epoch = (time: string) => `extract(epoch from ${time})::text`

/** To be asked on the connection itself; one row, an `OwnBackend`. */
export const ownBackend = `
  select ${epoch("pg_postmaster_start_time()")} as server, pg_backend_pid() as pid, pg_is_in_recovery() as standby,
    (select ${epoch("backend_start")} from pg_stat_activity where pid = pg_backend_pid()) as started`

/** Whether the server that is asked has a backend: $1 `server`, $2 `pid`, $3 `started`. One row, `{known}`. */
export const knownHere = `
  select ${epoch("pg_postmaster_start_time()")} = $1::text and exists (
    select from pg_stat_activity where pid = $2::integer
      and coalesce(${epoch("backend_start")} = $3::text, true)) as known`

/** What a server says of processes: $1 their ids. One row, a `ServerAnswer`. */
const findBackends = `
  select ${epoch("pg_postmaster_start_time()")} as server, pg_is_in_recovery() as standby,
    coalesce((select jsonb_agg(jsonb_build_object('pid', pid, 'started', ${epoch("backend_start")}))
      from pg_stat_activity where pid = any($1::integer[])), '[]') as processes`

/** A server, and those of the processes asked for that it has. */
interface ServerAnswer {
  readonly server: string
  readonly processes: ReadonlyArray<{ readonly pid: number; readonly started: string | null }>
}

/** Whether the backend is one of that server's. */
export const knows = ({ processes, server }: ServerAnswer, backend: Backend): boolean =>
  server === backend.server &&
  processes.some(
    ({ pid, started }) =>
      pid === backend.pid && (started === null || backend.started === null || started === backend.started),
  )

/** SQLSTATE class 57P: the server says that it goes away or is not there yet. Any other answer is a sign of life. */
const isLeaving = (error: pg.DatabaseError) => error.code?.startsWith("57P") === true

/**
 * Asks whoever answers at the address now for these processes, on a connection of its own, so that neither a full pool
 * nor a queue of locks is in the way. `undefined`: the server lives, but would not say. Rejects when there is none, or
 * one that follows another.
 */
export const askServer = async (
  options: ClientConfig,
  pids: ReadonlyArray<number>,
  signal: AbortSignal,
): Promise<ServerAnswer | undefined> => {
  const socket = new Socket()
  const client = new pg.Client({ ...options, stream: () => socket })
  client.on("error", () => {})
  signal.addEventListener("abort", () => socket.destroy())
  try {
    await client.connect()
    const { rows } = await client.query<ServerAnswer & { readonly standby: boolean }>(findBackends, [pids])
    if (rows[0]?.standby === true) throw new Standby()
    return rows[0]
  } catch (error) {
    if (error instanceof pg.DatabaseError && !isLeaving(error)) return undefined
    throw error
  } finally {
    socket.destroy()
  }
}
