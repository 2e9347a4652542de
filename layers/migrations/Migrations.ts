import * as ShardingConfig from "@effect/cluster/ShardingConfig"
import * as SqlMessageStorage from "@effect/cluster/SqlMessageStorage"
import * as SqlRunnerStorage from "@effect/cluster/SqlRunnerStorage"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"

interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: ReadonlyArray<string>
}

/** A migration's file stands beside this one. */
const sqlFile = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8")

/** Release 1.0.0 begins with the whole schema; what later releases change comes after it. */
const migrations: ReadonlyArray<Migration> = [{ id: 1, name: "schema", statements: [sqlFile("schema.sql")] }]

/** One number for all nodes: whoever migrates holds it. */
const advisoryLock = 4_861_553

/** The database's schema is older than this program. */
export class SchemaBehind extends Schema.TaggedError<SchemaBehind>()("SchemaBehind", { message: Schema.String }) {}

/**
 * Brings the schema up to this program, all or nothing, in one transaction under an advisory lock: any number of nodes
 * may do it at once. Returns the names of what was applied now.
 */
export const migrate = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql.unsafe("set local statement_timeout = 0")
      yield* sql.unsafe("set local lock_timeout = 0")
      yield* sql.unsafe(`select pg_advisory_xact_lock(${advisoryLock})`)
      yield* sql.unsafe(`create table if not exists schema_migrations (
        id integer primary key, name text not null, applied_at timestamptz not null default clock_timestamp())`)
      const done = yield* sql<{ readonly id: number }>`select id from schema_migrations`
      const missing = migrations.filter(({ id }) => !done.some((row) => row.id === id))
      for (const { id, name, statements } of missing) {
        for (const statement of statements) yield* sql.unsafe(statement)
        yield* sql`insert into schema_migrations (id, name) values (${id}, ${name})`
      }
      return missing.map(({ id, name }) => `${String(id).padStart(4, "0")}_${name}`)
    }),
  )
})

/** Held while the actor engine's tables are made; another number than the one above, which is taken on the way. */
const engineLock = 4_861_554
const engineTables = ["cluster_messages", "cluster_replies", "cluster_runners", "cluster_locks"]

/**
 * Makes the tables of the actor engine, which it would make itself at the first start: pods that start together would
 * race for it. Needs three connections.
 */
export const migrateEngine = Effect.scoped(
  Effect.gen(function* () {
    const holder = yield* (yield* SqlClient.SqlClient).reserve
    yield* holder.executeRaw("set statement_timeout = 0", [])
    yield* holder.executeRaw("set lock_timeout = 0", [])
    yield* Effect.acquireRelease(holder.executeRaw(`select pg_advisory_lock(${engineLock})`, []), () =>
      Effect.ignore(holder.executeRaw(`select pg_advisory_unlock(${engineLock})`, [])),
    )
    yield* Layer.build(Layer.merge(SqlMessageStorage.layer, SqlRunnerStorage.layer)).pipe(
      Effect.provide(ShardingConfig.layer({ shardLockDisableAdvisory: true })),
    )
  }),
)

/** Refuses a database that was not migrated for this program. */
export const check = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ readonly there: boolean }>`select to_regclass('schema_migrations') is not null as there`
  const rows = found?.there ? yield* sql<{ readonly id: number }>`select id from schema_migrations` : []
  const [engine] = yield* sql<{ readonly made: boolean }>`
    select bool_and(to_regclass(name) is not null) as made
    from jsonb_array_elements_text(${JSON.stringify(engineTables)}::text::jsonb) as name`
  if (engine?.made !== true || migrations.some(({ id }) => !rows.some((row) => row.id === id)))
    return yield* new SchemaBehind({
      message: "The schema of DATABASE_URL is behind this program: run `npm run migrate`.",
    })
})
