import { Effect, Redacted } from "effect"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { migrateEngine, migrations } from "../../layers/migrations/Migrations.ts"
import { migrateTo } from "../../layers/migrations/Migrator.ts"
import { makeTenant, type Plane, publish, startPlane, type Tenant } from "../faults/plane.ts"
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
    const pool = () => Postgres.layer({ url: Redacted.make(plane.postgres.url), poolSize: 3, patient: true })
    beforeAll(async () => {
      plane = await startPlane({ RUNNER_HOST: "127.0.0.1", RUNNER_PORT: String(await freePort()) })
      db = new pg.Client({ connectionString: plane.postgres.url })
      await db.connect()
      const { rows } = await db.query<{ name: string }>(
        `select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1`,
      )
      tables = rows.map(({ name }) => name)
    }, 180_000)
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
            pool(),
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

    it(
      "while a dump holds every table, a pod starts, and a migration with nothing to do waits for nobody",
      { timeout: 120_000 },
      async () => {
        await plane.node().kill9()
        await db.query("begin")
        await db.query(`lock table ${tables.join(", ")} in access share mode`)
        await plane.start()
        await Effect.runPromise(Effect.provide(Effect.zipRight(migrateTo(migrations), migrateEngine), pool()))
        const bytes = new Uint8Array(Buffer.from("published meanwhile"))
        const { body } = await publish(plane.node().baseUrl, tenant, { name: "meanwhile.txt", bytes })
        const told = async () =>
          (await db.query("select 1 from events where artifact_id = $1 and published_at is not null", [body.id]))
            .rowCount
        // A duty of the killed node moves within 9 s.
        for (let left = 100; left > 0 && (await told()) === 0; left--) await sleep(200)
        expect(await told(), plane.node().logs().slice(-3000)).toBe(1)
        await db.query("commit")
      },
    )
  })
