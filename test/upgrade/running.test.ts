import { Effect, Redacted } from "effect"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { migrations } from "../../layers/migrations/Migrations.ts"
import { migrateTo } from "../../layers/migrations/Migrator.ts"
import { makeTenant, type Plane, startPlane, type Tenant } from "../faults/plane.ts"
import { freePort } from "../support/ports.ts"
import { sleep } from "../support/processes.ts"
import { startCalls } from "./calls.ts"

/** The node's last faults. */
const errorsOf = (plane: Plane): string =>
  plane
    .node()
    .logs()
    .split("\n")
    .filter((line) => line.includes('"level":"error"'))
    .slice(-5)
    .join("\n")

if (inject("postgresUrl") !== null && inject("redisUrl") !== null)
  describe("a schema that grows under a running node", () => {
    let plane: Plane
    let tenant: Tenant
    let db: pg.Client
    let tables: ReadonlyArray<string>
    beforeAll(async () => {
      plane = await startPlane({ RUNNER_HOST: "127.0.0.1", RUNNER_PORT: String(await freePort()) })
      db = new pg.Client({ connectionString: plane.postgres.url })
      await db.connect()
      const { rows } = await db.query<{ name: string }>(
        `select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1`,
      )
      tables = rows.map(({ name }) => name)
    }, 90_000)
    beforeEach(async () => {
      tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
    })
    afterAll(async () => {
      await db?.end()
      await plane?.dispose()
    })

    it("every table gets one column more, and no call is refused", { timeout: 120_000 }, async () => {
      expect(tables).toEqual(expect.arrayContaining(["artifacts", "claims", "api_keys", "cluster_messages"]))
      const calls = startCalls(plane, tenant)
      // Each connection of the pool has prepared what it asks often by then.
      await sleep(3000)
      const before = new Map(calls.done)
      for (const table of tables) {
        await db.query(`alter table ${table} add column spare text`)
        await sleep(500)
      }
      // A key is cached for 2 s.
      await sleep(3000)
      await calls.stop()
      expect(Object.fromEntries(calls.refused), errorsOf(plane)).toEqual({})
      for (const [what, count] of calls.done) expect(count, what).toBeGreaterThan(before.get(what) ?? 0)
      expect(calls.done.size).toBe(22)
    })

    it(
      "while a dump holds every table for 12 s, a migration waits and calls do not",
      { timeout: 120_000 },
      async () => {
        const calls = startCalls(plane, tenant)
        await sleep(1000)
        const statements = tables.map((table) => `alter table ${table} add column later text`)
        await db.query("begin")
        await db.query(`lock table ${tables.join(", ")} in access share mode`)
        let waits = true
        const migrating = Effect.runPromise(
          Effect.provide(
            migrateTo([...migrations, { id: 1001, name: "later", kind: "transaction", statements }]),
            Postgres.layer({ url: Redacted.make(plane.postgres.url), poolSize: 3, patient: true }),
          ),
        ).finally(() => {
          waits = false
        })
        await sleep(1000)
        const before = new Map(calls.done)
        await sleep(11_000)
        const [waited, after] = [waits, new Map(calls.done)]
        await db.query("commit")
        const done = await migrating
        await sleep(1000)
        await calls.stop()
        expect(Object.fromEntries(calls.refused), errorsOf(plane)).toEqual({})
        expect(waited).toBe(true)
        expect(done).toEqual(["1001_later"])
        for (const [what, count] of after) expect(count, what).toBeGreaterThan(before.get(what) ?? 0)
        const { rows } = await db.query("select 1 from information_schema.columns where column_name = 'later'")
        expect(rows).toHaveLength(tables.length)
      },
    )
  })
