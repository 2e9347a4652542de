import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Clock, Effect, Exit, Fiber, Schedule, Schema, type Scope } from "effect"
import { sqlState } from "../clients/sqlErrors.ts"
import { blockersOf } from "./Blockers.ts"
import { type Migration, titleOf } from "./Migration.ts"

/** A migration could not be carried out; says why, and what to do. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  message: Schema.String,
}) {}

export interface Limits {
  /** What one try may take with its locks and the wait for them: callers queue behind it for so long, and get no error. */
  readonly tryMillis: number
  /** Between two tries at first; it doubles up to half a minute, so that callers get through. */
  readonly pauseMillis: number
  /** How long tries go on. */
  readonly giveUpMillis: number
}

export const defaultLimits: Limits = { tryMillis: 2000, pauseMillis: 1000, giveUpMillis: 600_000 }

const longestPauseMillis = 30_000
const batchRows = 1000
const lockPollMillis = 200

/** One session, in which everything runs: its lock lasts as long as it does. */
interface Session {
  readonly pid: number
  readonly run: (text: string, values?: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<any>, SqlError>
}

/** lock_not_available, query_canceled (by statement_timeout), deadlock_detected: another try may succeed. */
const isBusy = (error: SqlError) => ["55P03", "57014", "40P01"].includes(sqlState(error) ?? "")

/** What the server said no to; what it did not answer at all stays as it is. */
const failureOf = (migration: Migration, error: SqlError): SqlError | MigrationFailed => {
  const state = sqlState(error)
  const reason = error.cause instanceof Error ? error.cause.message : error.message
  return state === undefined || !/^\w{5}$/.test(state)
    ? error
    : new MigrationFailed({ message: `Migration ${titleOf(migration)} failed: ${reason} (${state}).` })
}

/** A session that holds the advisory lock of this number until the scope ends. */
export const lockedSession = (
  advisoryLock: number,
): Effect.Effect<Session, SqlError, SqlClient.SqlClient | Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* (yield* SqlClient.SqlClient).reserve
    const run: Session["run"] = (text, values = []) => connection.execute(text, values, undefined)
    yield* Effect.acquireRelease(run("set statement_timeout = 0; set lock_timeout = 0"), () =>
      Effect.ignore(run("reset statement_timeout; reset lock_timeout")),
    )
    // Asked again and again: a session that waits for a lock has a snapshot, for whose end the index that the lock's
    // holder makes would wait in its turn.
    const take = Effect.map(
      run(`select pg_try_advisory_lock(${advisoryLock}) as taken`),
      ([row]) => row?.taken === true,
    )
    yield* Effect.acquireRelease(
      Effect.repeat(take, { until: (taken) => taken, schedule: Schedule.spaced(lockPollMillis) }),
      () => Effect.ignore(run(`select pg_advisory_unlock(${advisoryLock})`)),
    )
    const [own] = yield* run("select pg_backend_pid() as pid")
    return { pid: own.pid, run }
  })

const transaction = <A, E, R>({ run }: Session, body: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      yield* run("begin")
      const exit = yield* Effect.exit(restore(body))
      if (Exit.isSuccess(exit)) yield* run("commit")
      else yield* Effect.ignore(run("rollback"))
      return yield* exit
    }),
  )

/**
 * Repeats a transaction that got its locks too late. `run` is to be used for every statement of the body: it gives each
 * what is left of the try's time.
 */
const withTries = <A, R>(
  session: Session,
  limits: Limits,
  title: string,
  body: (run: Session["run"]) => Effect.Effect<A, SqlError, R>,
): Effect.Effect<A, SqlError | MigrationFailed, R | SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    let blockers: string | undefined
    for (let pause = limits.pauseMillis; ; pause = Math.min(2 * pause, longestPauseMillis)) {
      const until = (yield* Clock.currentTimeMillis) + limits.tryMillis
      const run: Session["run"] = (text, values) =>
        Effect.gen(function* () {
          const left = Math.max(1, until - (yield* Clock.currentTimeMillis))
          yield* session.run(`set local lock_timeout = ${left}; set local statement_timeout = ${left}`)
          return yield* session.run(text, values)
        })
      const looking = yield* blockersOf(session.pid).pipe(
        Effect.tap((found) => {
          blockers = found ?? blockers
        }),
        Effect.delay(limits.tryMillis / 2),
        Effect.fork,
      )
      const outcome = yield* Effect.either(transaction(session, body(run)))
      yield* Fiber.interruptFork(looking)
      if (outcome._tag === "Right") return outcome.right
      if (!isBusy(outcome.left)) return yield* outcome.left
      const spent = (yield* Clock.currentTimeMillis) - began
      const why =
        blockers === undefined
          ? `its statements took longer than ${limits.tryMillis} ms`
          : `it waits for locks that are held by ${blockers}`
      if (spent + pause > limits.giveUpMillis)
        return yield* new MigrationFailed({
          message:
            `Migration ${title} was given up after ${Math.round(spent / 1000)} s: ${why}. ` +
            "End what is in the way or wait for its end, then migrate again; nothing of this step was applied.",
        })
      yield* Effect.logWarning(`Migration ${title} lets others pass and tries again in ${pause} ms: ${why}.`)
      yield* Effect.sleep(pause)
    }
  })

const applied = (run: Session["run"], { id, name }: Migration) =>
  run("insert into schema_migrations (id, name) values ($1, $2)", [id, name])

const createIndex = (session: Session, migration: Extract<Migration, { kind: "index" }>) =>
  Effect.gen(function* () {
    const index = /^create (?:unique )?index concurrently (\w+) on /i.exec(migration.create)?.[1]
    if (index === undefined) return yield* Effect.dieMessage(`${titleOf(migration)} makes no index concurrently`)
    const [found] = yield* session.run("select indisvalid as valid from pg_index where indexrelid = to_regclass($1)", [
      index,
    ])
    if (found?.valid === false) yield* session.run(`drop index concurrently ${index}`)
    // Waits for transactions that are older than it, and nobody waits for it.
    if (found?.valid !== true) yield* session.run(migration.create)
    yield* applied(session.run, migration)
  })

const backfill = (session: Session, limits: Limits, migration: Extract<Migration, { kind: "backfill" }>) =>
  Effect.gen(function* () {
    for (;;) {
      const began = yield* Clock.currentTimeMillis
      const done = yield* withTries(session, limits, titleOf(migration), (run) =>
        Effect.gen(function* () {
          const [before] = yield* run("select position from schema_backfills where id = $1", [migration.id])
          const [batch] = yield* run(migration.batch, [before?.position ?? "", batchRows])
          if (typeof batch?.last === "string") {
            yield* run(
              `insert into schema_backfills (id, position) values ($1, $2)
               on conflict (id) do update set position = excluded.position`,
              [migration.id, batch.last],
            )
            return false
          }
          yield* run("delete from schema_backfills where id = $1", [migration.id])
          yield* applied(run, migration)
          return true
        }),
      )
      if (done) return
      // Half of the time is the callers'.
      yield* Effect.sleep((yield* Clock.currentTimeMillis) - began)
    }
  })

const apply = (
  session: Session,
  limits: Limits,
  migration: Migration,
): Effect.Effect<void, SqlError | MigrationFailed, SqlClient.SqlClient> => {
  switch (migration.kind) {
    case "transaction":
      return withTries(session, limits, titleOf(migration), (run) =>
        Effect.zipRight(
          Effect.forEach(migration.statements, (statement) => run(statement), { discard: true }),
          applied(run, migration),
        ),
      )
    case "index":
      return createIndex(session, migration)
    case "backfill":
      return backfill(session, limits, migration)
  }
}

/** One number for all nodes: whoever migrates holds it. */
const advisoryLock = 4_861_553

/**
 * Brings the schema up to the last of these migrations, one after the other, each for itself: what was applied stays
 * when a later one fails. Any number of nodes may do it at once. Returns the titles of what was applied now.
 */
export const migrateTo = (
  migrations: ReadonlyArray<Migration>,
  limits: Limits = defaultLimits,
): Effect.Effect<ReadonlyArray<string>, SqlError | MigrationFailed, SqlClient.SqlClient> =>
  Effect.scoped(
    Effect.gen(function* () {
      const session = yield* lockedSession(advisoryLock)
      yield* session.run(`
        create table if not exists schema_migrations (
          id integer primary key, name text not null, applied_at timestamptz not null default clock_timestamp());
        create table if not exists schema_backfills (id integer primary key, position text not null)`)
      // A database that has no schema yet has no callers either: its first step may take as long as it takes.
      const known: ReadonlyArray<{ readonly id: number }> = yield* session.run("select id from schema_migrations")
      const missing = migrations.filter(({ id }) => !known.some((row) => row.id === id))
      for (const migration of missing) {
        const unhurried = known.length === 0 && migration.id === 1
        yield* Effect.catchTag(
          apply(session, unhurried ? { ...limits, tryMillis: limits.giveUpMillis } : limits, migration),
          "SqlError",
          (error) => Effect.fail(failureOf(migration, error)),
        )
      }
      return missing.map(titleOf)
    }),
  )
