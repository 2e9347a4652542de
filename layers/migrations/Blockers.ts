import * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"

interface Blocker {
  readonly pid: number
  readonly usename: string | null
  readonly application_name: string | null
  readonly state: string | null
  readonly seconds: number | null
}

/** For people. The statement is left out: it may hold what must stand in no log. */
const describe = ({ application_name, pid, seconds, state, usename }: Blocker): string => {
  const facts = [
    application_name || "no application_name",
    `user ${usename ?? "unknown"}`,
    ...(state === null ? [] : [state]),
    ...(seconds === null ? [] : [`in a transaction for ${Math.round(seconds)} s`]),
  ]
  return `process ${pid} (${facts.join(", ")})`
}

/** Who keeps the session of this process number waiting, in words; undefined when nobody does. Asked on another connection. */
export const blockersOf = (pid: number): Effect.Effect<string | undefined, never, SqlClient.SqlClient> =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql<Blocker>`
      select a.pid, a.usename, a.application_name, a.state,
        extract(epoch from clock_timestamp() - a.xact_start)::double precision as seconds
      from unnest(pg_blocking_pids(${pid}::integer)) as b(pid) join pg_stat_activity a on a.pid = b.pid
      order by a.xact_start nulls last limit 3`,
  ).pipe(
    Effect.map((found) => (found.length === 0 ? undefined : found.map(describe).join("; "))),
    Effect.orElseSucceed(() => undefined),
  )
