import * as ShardingConfig from "@effect/cluster/ShardingConfig"
import * as SqlMessageStorage from "@effect/cluster/SqlMessageStorage"
import * as SqlRunnerStorage from "@effect/cluster/SqlRunnerStorage"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { withoutTableLock } from "../ActorMessages/TableLock.ts"
import { type Migration, titleOf } from "./Migration.ts"
import { lockedSession, migrateTo } from "./Migrator.ts"

/** A migration's file stands beside this one. */
const sqlFile = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8")

/** Release 1.0.0 begins with the whole schema; what later releases change comes after it. */
export const migrations: ReadonlyArray<Migration> = [
  { id: 1, name: "schema", kind: "transaction", statements: [sqlFile("schema.sql")] },
  // Release 1.1.0
  {
    id: 2,
    name: "events_without_metadata",
    kind: "transaction",
    statements: [sqlFile("0002_events_without_metadata.sql")],
  },
  { id: 3, name: "charged_metadata", kind: "transaction", statements: [sqlFile("0003_charged_metadata.sql")] },
  { id: 4, name: "bare_tombstones", kind: "backfill", batch: sqlFile("0004_bare_tombstones.sql") },
  { id: 5, name: "audit_entries", kind: "transaction", statements: [sqlFile("0005_audit_entries.sql")] },
]

/** The database's schema is older than this program. */
export class SchemaBehind extends Schema.TaggedError<SchemaBehind>()("SchemaBehind", { message: Schema.String }) {}

/** Brings the schema up to this program: see migrateTo. */
export const migrate = migrateTo(migrations)

/** Held while the actor engine's tables are made; another number than the migrations have. */
const engineLock = 4_861_554
const engineTables = ["cluster_messages", "cluster_replies", "cluster_runners", "cluster_locks"]

/**
 * Makes the tables of the actor engine, which it would make itself at the first start: pods that start together would
 * race for it. Needs three connections.
 */
export const migrateEngine = Effect.scoped(
  Effect.gen(function* () {
    yield* lockedSession(engineLock)
    yield* Layer.build(Layer.merge(SqlMessageStorage.layer, SqlRunnerStorage.layer)).pipe(
      Effect.provide(withoutTableLock),
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

/** The newest migration that the database has, e.g. `0001_schema`. */
export const release = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [newest] = yield* sql<{ readonly id: number; readonly name: string }>`
    select id, name from schema_migrations order by id desc limit 1`
  return newest === undefined ? "none" : titleOf(newest)
})
