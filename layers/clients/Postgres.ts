import { PgClient } from "@effect/sql-pg"
import { SqlError } from "@effect/sql/SqlError"
import { SqlClient } from "@effect/sql/SqlClient"
import { Context, Effect, flow, Layer, Option, Redacted } from "effect"
import pg from "pg"
import { ImpatientPool } from "./ImpatientPool.ts"
import { sessionOptions } from "./sessionOptions.ts"
import { sqlState } from "./sqlErrors.ts"
import { isWorthOnceMore } from "./WatchedClient.ts"

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

const limits = { statement_timeout: 5000, lock_timeout: 3000, idle_in_transaction_session_timeout: 10_000 }

interface Options {
  readonly url: Redacted.Redacted
  readonly poolSize: number
  /** For statements that may take as long as they take: migrations. */
  readonly patient?: boolean
  /** For statements whose texts are not of a bounded number. */
  readonly unprepared?: boolean
}

const makePool = (options: Options) => {
  const settings: pg.PoolConfig = {
    connectionString: Redacted.value(options.url),
    max: options.poolSize,
    connectionTimeoutMillis: 15_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 3000,
    application_name: "artifact-plane",
    options: sessionOptions,
    types,
  }
  return options.patient === true
    ? new pg.Pool(settings)
    : new ImpatientPool({ ...settings, ...limits }, options.unprepared !== true)
}

/** A connection lost within a transaction fails it like any statement; the library dies of the rollback that fails then. */
const lossIsNoDefect = <A, E, R>(transaction: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  Effect.catchSomeDefect(transaction, (defect) =>
    defect instanceof SqlError ? Option.some(Effect.fail(defect)) : Option.none(),
  )

/** A transaction is lost with a statement that is worth to be asked once more; all of it is then. */
const onceMore = <A, E, R>(transaction: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(transaction, {
    times: 1,
    while: (error) => error instanceof SqlError && isWorthOnceMore(sqlState(error)),
  })

/**
 * The process's pool of at most `poolSize` connections. A caller waits for one while Postgres lives, a statement runs
 * for 5 s at most and waits 3 s for a lock, and nobody hangs on a database that is away: see ImpatientPool.
 */
export const layer = (options: Options) =>
  Layer.map(pooled(options), (context) => {
    const client = Context.get(context, SqlClient)
    const { reserve, withTransaction } = client
    Object.assign(client, {
      // The library forgets a connection that comes when its caller has left, and the pool never gets it back.
      reserve: Effect.uninterruptible(reserve),
      withTransaction: flow(withTransaction, lossIsNoDefect, onceMore),
    })
    return context
  })

const pooled = (options: Options) =>
  PgClient.layerFromPool({
    acquire: Effect.acquireRelease(
      Effect.try({
        try: () => {
          const pool = makePool(options)
          // An idle connection that breaks is replaced at the next use; without a listener it would end the process.
          pool.on("error", () => {})
          return pool
        },
        catch: (cause) => new SqlError({ cause, message: "Failed to make the connection pool" }),
      }),
      // A finalizer is not interruptible, and a timeout waits for what it cannot interrupt.
      (pool) => Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeout("2 seconds"), Effect.ignore),
    ),
  })
