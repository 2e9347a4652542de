import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import pg from "pg"
import { describe, inject } from "vitest"
import * as Embedded from "../../layers/clients/Embedded.ts"
import * as Postgres from "../../layers/clients/Postgres.ts"
import type { Migration } from "../../layers/migrations/Migration.ts"
import { check, migrateEngine, migrations } from "../../layers/migrations/Migrations.ts"
import { type Limits, migrateTo } from "../../layers/migrations/Migrator.ts"
import { createDatabase } from "../support/postgres.ts"

const postgresUrl = inject("postgresUrl")

const base: Migration = {
  id: 1,
  name: "base",
  kind: "transaction",
  statements: [
    "create table things (id integer primary key, name text, touched integer not null default 0)",
    "insert into things (id, name) select n, 'thing ' || n from generate_series(1, 3500) as n",
  ],
}
const column: Migration = {
  id: 2,
  name: "column",
  kind: "transaction",
  statements: ["alter table things add column spare text"],
}
const index: Migration = {
  id: 3,
  name: "index",
  kind: "index",
  create: "create unique index concurrently things_by_name on things (name)",
}
const values: Migration = {
  id: 4,
  name: "values",
  kind: "backfill",
  batch: `
    with batch as (
      select id from things where id > coalesce(nullif($1::text, ''), '0')::integer order by id limit $2::integer for update
    ), done as (
      update things set touched = touched + 1 from batch where things.id = batch.id
    )
    select max(id)::text as last from batch`,
}
const all = [base, column, index, values]
const titles = ["0001_base", "0002_column", "0003_index", "0004_values"]

const quick: Limits = { tryMillis: 400, pauseMillis: 50, giveUpMillis: 1500 }

const kindsOf = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  expect(yield* migrateTo(all)).toEqual(titles)
  expect(yield* migrateTo(all)).toEqual([])
  expect(yield* sql`select min(touched) as least, max(touched) as most from things`).toEqual([{ least: 1, most: 1 }])
  expect(yield* sql`select indisvalid from pg_index where indexrelid = 'things_by_name'::regclass`).toEqual([
    { indisvalid: true },
  ])
  expect(yield* sql`select id from schema_backfills`).toEqual([])
  expect(yield* sql`select current_setting('lock_timeout') as timeout`).toEqual(
    yield* sql`select reset_val || unit as timeout from pg_settings where name = 'lock_timeout' and setting <> '0'
      union all select '0' from pg_settings where name = 'lock_timeout' and setting = '0'`,
  )
})

describe("migrations on PGlite", () => {
  it.scopedLive(
    "every kind is applied, once",
    () => Effect.provide(kindsOf, Embedded.layer({ dataDir: undefined })),
    120_000,
  )
})

/** A database, nodes that migrate it, and a session beside them. */
const scene = Effect.gen(function* () {
  const url = yield* Effect.promise(() => createDatabase({ url: postgresUrl ?? "" }))
  const connect = Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new pg.Client({ connectionString: url, application_name: "pg_dump" })
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end()),
  )
  const open = Effect.map(connect, (client) => ({
    run: (text: string) => Effect.promise(async () => (await client.query(text)).rows),
  }))
  const { run } = yield* open
  const node = <A, E>(body: Effect.Effect<A, E, SqlClient.SqlClient>) =>
    Effect.provide(body, Postgres.layer({ url: Redacted.make(url), poolSize: 3, patient: true }))
  return { run, open, node }
})

if (postgresUrl !== null)
  describe("migrations on Postgres", () => {
    it.scopedLive("every kind is applied, once", () => Effect.flatMap(scene, ({ node }) => node(kindsOf)))

    it.scopedLive("any number of nodes may migrate at once, whatever the kind", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        const done = yield* Effect.all(
          Array.from({ length: 4 }, () => node(migrateTo(all))),
          { concurrency: 4 },
        )
        expect(done.flat()).toEqual(titles)
        expect(yield* run("select distinct touched from things")).toEqual([{ touched: 1 }])
      }),
    )

    it.scopedLive("each is a step of its own: what came before a failure stays, and the failure says what it was", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        const wrong: Migration = { ...column, statements: [...column.statements, "alter table nothing add x text"] }
        const failure = yield* Effect.flip(node(migrateTo([base, wrong, index])))
        expect(failure).toMatchObject({
          _tag: "MigrationFailed",
          message: 'Migration 0002_column failed: relation "nothing" does not exist (42P01).',
        })
        expect(yield* run("select id from schema_migrations")).toEqual([{ id: 1 }])
        expect(yield* run("select 1 from information_schema.columns where column_name = 'spare'")).toEqual([])
        expect(yield* node(migrateTo(all))).toEqual(titles.slice(1))
      }),
    )

    it.scopedLive("one that gets no lock lets others pass, gives up in time, and says who is in the way", () =>
      Effect.gen(function* () {
        const { node, open, run } = yield* scene
        yield* node(migrateTo([base]))
        yield* run("begin")
        yield* run("lock table things in access share mode")
        const other = yield* open
        const giving = yield* Effect.fork(Effect.flip(node(migrateTo([base, column], quick))))
        for (let turn = 0; turn < 5; turn++) {
          yield* other.run("set statement_timeout = 2000; update things set name = name where id = 1")
          yield* Effect.sleep(100)
        }
        const failure = yield* Fiber.join(giving)
        expect(failure).toMatchObject({ _tag: "MigrationFailed" })
        expect(failure.message).toMatch(
          /^Migration 0002_column was given up after \d+ s: it waits for locks that are held by process \d+ \(pg_dump, user postgres, idle in transaction, in a transaction for \d+ s\)\. End what is in the way/,
        )
        yield* run("commit")
        expect(yield* node(migrateTo([base, column], quick))).toEqual(["0002_column"])
      }),
    )

    it.scopedLive("one that keeps its locks too long is given up too: others would queue behind it", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        yield* node(migrateTo([base]))
        const slow: Migration = { ...column, statements: [...column.statements, "select pg_sleep(5)"] }
        const failure = yield* Effect.flip(node(migrateTo([base, slow], quick)))
        expect(failure.message).toContain("its statements took longer than 400 ms")
        expect(yield* run("select id from schema_migrations")).toEqual([{ id: 1 }])
      }),
    )

    it.scopedLive("an index waits for who writes already, and nobody waits for it", () =>
      Effect.gen(function* () {
        const { node, open, run } = yield* scene
        yield* node(migrateTo([base, column]))
        yield* run("begin")
        yield* run("update things set name = 'begun before' where id = 1")
        const making = yield* Effect.fork(node(migrateTo([base, column, index], quick)))
        const other = yield* open
        for (let turn = 2; turn < 12; turn++) {
          yield* other.run(`set lock_timeout = 2000; update things set name = 'changed ' || id where id = ${turn}`)
          yield* Effect.sleep(200)
        }
        expect(making.unsafePoll()).toBeNull()
        yield* run("commit")
        expect(yield* Fiber.join(making)).toEqual(["0003_index"])
      }),
    )

    it.scopedLive("an index that a broken try left invalid is made anew", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        yield* node(migrateTo([base, column]))
        yield* run("update things set name = 'twice' where id in (1, 2)")
        const failure = yield* Effect.flip(node(migrateTo([base, column, index])))
        expect(failure.message).toContain("could not create unique index")
        const valid = "select indisvalid as valid from pg_index where indexrelid = 'things_by_name'::regclass"
        expect(yield* run(valid)).toEqual([{ valid: false }])
        yield* run("update things set name = 'once' where id = 2")
        expect(yield* node(migrateTo([base, column, index]))).toEqual(["0003_index"])
        expect(yield* run(valid)).toEqual([{ valid: true }])
      }),
    )

    it.scopedLive("values for old rows go on where they stopped, each row once", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        yield* node(migrateTo([base, column, index]))
        yield* run("begin")
        yield* run("update things set name = 'held' where id = 2500")
        const failure = yield* Effect.flip(node(migrateTo(all, quick)))
        expect(failure.message).toContain("Migration 0004_values was given up")
        yield* run("commit")
        expect(yield* run("select position from schema_backfills")).toEqual([{ position: "2000" }])
        expect(yield* run("select count(*)::integer as n from things where touched = 1")).toEqual([{ n: 2000 }])
        expect(yield* node(migrateTo(all))).toEqual(["0004_values"])
        expect(yield* run("select distinct touched from things")).toEqual([{ touched: 1 }])
      }),
    )

    it.scopedLive("a program accepts a schema that is ahead of it, and refuses one that is behind", () =>
      Effect.gen(function* () {
        const { node, run } = yield* scene
        yield* node(Effect.zipRight(migrateTo(migrations), migrateEngine))
        yield* run("insert into schema_migrations (id, name) values (1001, 'of a later release')")
        yield* node(check)
        yield* run(`delete from schema_migrations where id = ${migrations.at(-1)?.id}`)
        expect(yield* Effect.flip(node(check))).toMatchObject({ _tag: "SchemaBehind" })
      }),
    )
  })
