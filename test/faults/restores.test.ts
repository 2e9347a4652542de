import { randomBytes } from "node:crypto"
import { cpSync, existsSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Client } from "pg"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { blobFiles } from "../support/blobFiles.ts"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir, sleep } from "../support/processes.ts"
import { doctor, examined } from "./doctor.ts"
import { makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

/** A day is a second here, and so is everything else. */
const scaled = {
  SWEEP_SECONDS: "1",
  ORPHAN_AGE_SECONDS: "1",
  ORPHAN_SWEEP_SECONDS: "1",
  ORPHAN_CONFIRM_SECONDS: "1",
}

/** Runs `write`, which makes events, and returns once a node has marked the store after them: it does so once a sweep. */
const marked = async <A>(blobDir: string, write: () => Promise<A>): Promise<A> => {
  const file = join(blobDir, "store-watermark")
  const mark = () => (existsSync(file) ? readFileSync(file, "utf8") : "")
  const before = mark()
  const result = await write()
  const until = Date.now() + 60_000
  for (let last = mark(), since = Date.now(); last === before || Date.now() - since < 2500;) {
    if (Date.now() > until) throw new Error("the store was not marked within a minute")
    await sleep(100)
    if (mark() !== last) [last, since] = [mark(), Date.now()]
  }
  return result
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
    const since = await marked(plane.blobDir, () => publishSome(plane, tenant, 3))
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
    // Counters are made equal to the database as projects are reconciled, each within a minute.
    const left = async () => (await examined(plane.env)).kinds.filter((kind) => kind !== "events_unknown")
    const reconciled = Date.now() + 90_000
    while ((await left()).includes("counters_differ") && Date.now() < reconciled) await sleep(1000)
    expect(await left()).toEqual([])
  })
})

describe("an embedded node whose database was put back to an older state", { timeout: 300_000 }, () => {
  it("keeps the objects it does not know, and says so", async () => {
    const home = privateDir("embedded-restore")
    const env = { ...scaled, DATA_DIR: home.path }
    const start = () => startNode({ env, readyWithinMs: 120_000 })
    const stored = (ids: ReadonlyArray<string>) => {
      const keys = blobFiles(home.path).map((key) => key.split("/").at(-1))
      return ids.filter((id) => keys.includes(id))
    }
    const publishOn = async (node: ProductNode, tenant: Tenant) => {
      const { body } = await publish(node.baseUrl, tenant, { name: "file", bytes: randomBytes(20_000) })
      return body.id as string
    }
    const [database, backup] = [join(home.path, "postgres"), join(home.path, "backup")]
    try {
      const first = await start()
      const { admin_key } = JSON.parse(readFileSync(join(home.path, "dev-credentials.json"), "utf8"))
      const tenant = await makeTenant(first.baseUrl, admin_key)
      const ids = [await publishOn(first, tenant)]
      await sleep(2500)
      await first.stop()
      cpSync(database, backup, { recursive: true })
      const second = await start()
      ids.push(await marked(join(home.path, "blobs"), () => publishOn(second, tenant)))
      await second.stop()
      rmSync(database, { recursive: true })
      cpSync(backup, database, { recursive: true })
      const third = await start()
      const said = () => third.logs().includes("by a newer state of the database")
      for (const until = Date.now() + 30_000; !said() && Date.now() < until;) await sleep(100)
      expect(third.logs()).toContain("by a newer state of the database")
      // Several listings of the store.
      await sleep(5000)
      await third.stop()
      expect(stored(ids)).toEqual(ids)
      expect(await examined(env)).toMatchObject({
        code: 1,
        kinds: ["database_older_than_store", "object_unknown", "removals_held"],
      })
      expect((await doctor(env, "--accept-restore")).code).toBe(0)
      expect((await examined(env)).kinds).toEqual(["object_unknown"])
    } finally {
      home.remove()
    }
  })
})
