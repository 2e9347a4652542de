import { PgClient } from "@effect/sql-pg"
import { SqlError } from "@effect/sql/SqlError"
import { Effect, Redacted } from "effect"
import pg from "pg"

const int8 = 20

/**
 * bigint comes as a number, for sizes, counts and sequences stay far below 2^53; the actor engine's ids do not, and
 * come as the text they are.
 */
export const parseInt8 = (text: string): number | string => {
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : text
}

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === int8 ? parseInt8 : pg.types.getTypeParser(oid, format as "text")) as pg.CustomTypesConfig["getTypeParser"],
}

/**
 * The process's pool of at most `poolSize` connections. A caller waits 1.5 s for one, a statement runs for 5 s at most
 * and waits 3 s for a lock, so that nobody hangs on a database that is away. Keepalives notice a vanished peer.
 */
export const layer = (options: { readonly url: Redacted.Redacted; readonly poolSize: number }) =>
  PgClient.layerFromPool({
    acquire: Effect.acquireRelease(
      Effect.try({
        try: () => {
          const pool = new pg.Pool({
            connectionString: Redacted.value(options.url),
            max: options.poolSize,
            connectionTimeoutMillis: 1500,
            idleTimeoutMillis: 60_000,
            keepAlive: true,
            keepAliveInitialDelayMillis: 3000,
            statement_timeout: 5000,
            lock_timeout: 3000,
            query_timeout: 12_000,
            idle_in_transaction_session_timeout: 10_000,
            application_name: "artifact-plane",
            types,
          })
          // An idle connection that breaks is replaced at the next use; without a listener it would end the process.
          pool.on("error", () => {})
          return pool
        },
        catch: (cause) => new SqlError({ cause, message: "Failed to make the connection pool" }),
      }),
      (pool) =>
        Effect.ignore(
          Effect.timeout(
            Effect.promise(() => pool.end()),
            "2 seconds",
          ),
        ),
    ),
  })
