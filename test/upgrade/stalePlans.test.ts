import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import pg from "pg"
import { describe, inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { createDatabase } from "../support/postgres.ts"

const postgresUrl = inject("postgresUrl")

/** A pool of one connection over a table of its own, and SQL of another session beside it. */
const scene = Effect.gen(function* () {
  const url = yield* Effect.promise(() => createDatabase({ url: postgresUrl ?? "" }))
  const other = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end()),
  )
  const run = (text: string) => Effect.promise(() => other.query(text))
  yield* run("create table things (id integer primary key, name text)")
  yield* run("insert into things values (1, 'one')")
  return { run, pool: Postgres.layer({ url: Redacted.make(url), poolSize: 1 }) }
})

/** What a program that does not name its columns would ask; the layers must not. */
const everything = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select * from things where id = ${1}`)
const backend = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ readonly pid: number }>`select pg_backend_pid() as pid where true = ${true}`,
)

if (postgresUrl !== null)
  describe("a prepared statement whose result has other columns than when it was prepared", () => {
    it.scopedLive("is asked once more, and its connection is used no longer", () =>
      Effect.gen(function* () {
        const { pool, run } = yield* scene
        yield* Effect.gen(function* () {
          const [before] = yield* backend
          expect(yield* everything).toEqual([{ id: 1, name: "one" }])
          yield* run("alter table things add column spare text")
          expect(yield* everything).toEqual([{ id: 1, name: "one", spare: null }])
          const [after] = yield* backend
          expect(after?.pid).not.toBe(before?.pid)
          expect(yield* everything).toEqual([{ id: 1, name: "one", spare: null }])
          expect(yield* backend).toEqual([after])
        }).pipe(Effect.provide(pool))
      }),
    )

    it.scopedLive("within a transaction all of it is run once more, on another connection", () =>
      Effect.gen(function* () {
        const { pool, run } = yield* scene
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          expect(yield* everything).toHaveLength(1)
          yield* run("alter table things add column spare text")
          let turns = 0
          const seen = yield* sql.withTransaction(
            Effect.gen(function* () {
              turns++
              yield* sql`insert into things (id, name) values (${2}, ${"two"})`
              return yield* everything
            }),
          )
          expect(seen).toEqual([{ id: 1, name: "one", spare: null }])
          expect(turns).toBe(2)
          expect((yield* run("select id from things order by id")).rows).toEqual([{ id: 1 }, { id: 2 }])
        }).pipe(Effect.provide(pool))
      }),
    )

    it.scopedLive("so is the victim of a deadlock: a migration may lock tables in another order", () =>
      Effect.gen(function* () {
        const { pool, run } = yield* scene
        yield* run("create table more (id integer)")
        yield* run("begin")
        yield* run("lock table more in access exclusive mode")
        const both = Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`select things.id from things left join more using (id) where things.id = ${1}`,
        )
        const reading = yield* Effect.fork(Effect.provide(both, pool))
        // It holds the first table and waits for the second: after a second it looks for a deadlock, and gives in.
        yield* Effect.sleep("500 millis")
        yield* run("lock table things in access exclusive mode")
        yield* run("commit")
        expect(yield* Fiber.join(reading)).toEqual([{ id: 1 }])
      }),
    )

    it.scopedLive("what the server does not support at all is refused, not asked for ever", () =>
      Effect.gen(function* () {
        const { pool } = yield* scene
        const refused = yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          return yield* Effect.flip(sql`select id from things where id = ${1} union select 2 for update`)
        }).pipe(Effect.provide(pool))
        expect(refused.cause).toMatchObject({ code: "0A000" })
      }),
    )
  })
