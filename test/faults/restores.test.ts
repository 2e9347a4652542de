import { randomBytes } from "node:crypto"
import { Client } from "pg"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../support/processes.ts"
import { doctor, examined } from "./doctor.ts"
import { makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

/** A day is a second here, and so is everything else. */
const scaled = {
  SWEEP_SECONDS: "1",
  ORPHAN_AGE_SECONDS: "1",
  ORPHAN_SWEEP_SECONDS: "1",
  ORPHAN_CONFIRM_SECONDS: "1",
}

const onMaintenance = async (plane: Plane, ...statements: ReadonlyArray<string>) => {
  const url = new URL(plane.postgres.url)
  url.pathname = "/template1"
  const client = new Client({ connectionString: url.href })
  await client.connect()
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}

const publishSome = async (plane: Plane, tenant: Tenant, count: number) => {
  const ids: Array<string> = []
  for (let n = 0; n < count; n++) {
    const bytes = randomBytes(20_000)
    const { body, status } = await publish(plane.node().baseUrl, tenant, { name: `file-${n}`, bytes })
    expect(status).toBe(201)
    ids.push(body.id)
  }
  return ids
}

describe.each([
  ["its stream is ahead of it", false],
  ["nothing but the store is ahead of it, for Redis was lost with it", true],
] as const)("a Postgres restored to an older state, %s", (_, flushed) => {
  let plane: Plane
  beforeAll(async () => {
    plane = await startPlane(scaled)
  }, 120_000)
  afterAll(() => plane?.dispose())

  it("costs no object of what was acknowledged since, before an operator's word", { timeout: 300_000 }, async () => {
    const tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
    const before = await publishSome(plane, tenant, 1)
    await sleep(2500)
    await plane.node().stop()
    await onMaintenance(plane, "create database backup template postgres")
    await plane.start()
    const since = await publishSome(plane, tenant, 3)
    await sleep(2500)
    await plane.node().stop()
    await onMaintenance(plane, "drop database postgres with (force)", "create database postgres template backup")
    if (flushed) {
      const redis = new Redis(plane.redis.url)
      await redis.flushall()
      await redis.quit()
    }
    await plane.start()
    await sleep(8000)
    const missing = async () => {
      const stored = (await plane.blobs()).map((key) => key.split("/").at(-1))
      return [...before, ...since].filter((id) => !stored.includes(id))
    }
    expect(await missing()).toEqual([])
    expect(plane.node().logs()).toContain("Objects that the database does not know are not removed from now on")

    const { code, kinds, report } = await examined(plane.env)
    expect(code).toBe(1)
    expect(kinds).toContain("removals_held")
    const unknown = report.findings.filter(({ kind }) => kind === "object_unknown")
    expect(unknown.map((one) => String(one["blob_key"]).split("/").at(-1)).sort()).toEqual([...since].sort())

    expect(await doctor(plane.env, "--accept-restore")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("Accepted."),
    })
    const until = Date.now() + 30_000
    while ((await missing()).length < since.length && Date.now() < until) await sleep(200)
    expect([...(await missing())].sort()).toEqual([...since].sort())
    expect((await examined(plane.env)).kinds.filter((kind) => kind !== "events_unknown")).toEqual([])
  })
})
