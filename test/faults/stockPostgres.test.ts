import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { Client } from "pg"
import { afterAll, describe, expect, it } from "vitest"
import { orNotRun } from "../support/backends.ts"
import { call, makeTenant, publish, startPlane } from "./plane.ts"

const settings = { shared_preload_libraries: "pg_stat_statements", "pg_stat_statements.track": "all" }
/** Everything that runs by itself runs within the test: sweeps, listing of the store, reconciliation, the relay. */
const often = { SWEEP_SECONDS: "1", ORPHAN_SWEEP_SECONDS: "2", ORPHAN_AGE_SECONDS: "1" }

const plane = await orNotRun("Postgres of Debian", () =>
  startPlane(often, { postgres: { flavour: "debian", settings } }),
)

const query = async (text: string) => {
  const client = new Client({ connectionString: plane?.postgres.url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

afterAll(() => plane?.dispose())

if (plane !== null)
  describe("on a distribution's Postgres with its defaults", () => {
    it("no statement of the product is compiled, at whatever cost the planner puts on it", async () => {
      expect(await query("show jit")).toEqual([{ jit: "on" }])
      expect(await query("select pg_jit_available() as there")).toEqual([{ there: true }])
      await query("create extension pg_stat_statements")
      const { baseUrl } = plane.node()
      const tenant = await makeTenant(baseUrl, plane.adminKey)
      const at = `${baseUrl}/v1/projects/${tenant.project}/artifacts`
      for (let n = 0; n < 20; n++) {
        const { body, status } = await publish(baseUrl, tenant, { name: `a/${n}`, bytes: randomBytes(64) })
        expect(status).toBe(201)
        expect((await call(`${at}/${body.id}`, tenant.key)).status).toBe(200)
        expect((await call(`${at}?run_id=${tenant.runId}`, tenant.key)).status).toBe(200)
        expect((await call(`${at}/quota`, tenant.key)).status).toBe(200)
        if (n % 2 === 0) expect((await call(`${at}/${body.id}`, tenant.key, { method: "DELETE" })).status).toBe(204)
      }
      await sleep(5_000)
      const compiled = await query(
        `select left(query, 120) as query, calls::int, jit_functions::int from pg_stat_statements
       where jit_functions > 0 and query not like '%pg_stat_statements%' order by jit_functions desc`,
      )
      expect(compiled).toEqual([])
    }, 120_000)
  })
