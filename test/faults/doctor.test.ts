import { randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, truncateSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Client } from "pg"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { startNode } from "../support/node.ts"
import { privateDir } from "../support/processes.ts"
import { doctor, examined } from "./doctor.ts"
import { makeTenant, type Plane, publish, sha256, startPlane, type Tenant } from "./plane.ts"

const files = (blobDir: string) =>
  readdirSync(join(blobDir, "objects"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

const fileOf = (blobDir: string, id: string) => {
  const found = files(blobDir).find((file) => file.endsWith(id))
  if (found === undefined) throw new Error(`no file of ${id}`)
  return found
}

describe("the doctor", { timeout: 300_000 }, () => {
  let plane: Plane
  let tenant: Tenant
  let ids: ReadonlyArray<string>
  beforeAll(async () => {
    plane = await startPlane()
    tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
    const made: Array<string> = []
    for (let n = 0; n < 6; n++) {
      const { body } = await publish(plane.node().baseUrl, tenant, { name: `f${n}`, bytes: randomBytes(20_000) })
      made.push(body.id)
    }
    ids = made
  }, 120_000)
  afterAll(() => plane?.dispose())

  const query = async (text: string, values: ReadonlyArray<unknown> = []) => {
    const client = new Client({ connectionString: plane.postgres.url })
    await client.connect()
    try {
      return (await client.query(text, [...values])).rows
    } finally {
      await client.end()
    }
  }
  const redis = async <A>(use: (client: Redis) => Promise<A>) => {
    const client = new Redis(plane.redis.url)
    try {
      return await use(client)
    } finally {
      client.disconnect()
    }
  }
  /** Runs with one thing broken, and mends it. */
  const broken = async (path: string, breaking: () => void, look: () => Promise<void>) => {
    const before = readFileSync(path)
    breaking()
    try {
      await look()
    } finally {
      writeFileSync(path, before)
    }
  }

  it("finds nothing in a plane that works, beside it and while it serves", async () => {
    const { code, kinds, report } = await examined(plane.env, "--scrub")
    expect({ code, kinds, outcome: report.outcome }).toEqual({ code: 0, kinds: [], outcome: "clean" })
    expect(Object.fromEntries(report.checks.map(({ examined, name }) => [name, examined]))).toMatchObject({
      rows: 6,
      objects: 6,
      usage: 1,
      counters: 1,
      stream: 6,
    })
    const { code: tableCode, stdout } = await doctor(plane.env)
    expect(tableCode).toBe(0)
    expect(stdout).toMatch(/^check +examined +findings\n[^]*^rows +6 +0$[^]*All agree\.\n$/m)
  })

  it("names bytes that are missing, cut, changed or unknown, and changes none of them even with --repair", async () => {
    const [missing = "", cut = "", changed = ""] = ids
    const paths = [missing, cut, changed].map((id) => fileOf(plane.blobDir, id))
    const [first = "", second = "", third = ""] = paths
    const folder = sha256(Buffer.from(`${tenant.project}/art_unknown`)).slice(0, 2)
    const unknown = join(plane.blobDir, "objects", folder, `${tenant.project}+art_unknown`)
    await broken(
      first,
      () => unlinkSync(first),
      () =>
        broken(
          second,
          () => truncateSync(second, 10),
          () =>
            broken(
              third,
              () => writeFileSync(third, randomBytes(20_000)),
              async () => {
                writeFileSync(unknown, "not anybody's")
                const before = files(plane.blobDir).sort()
                const quick = await examined(plane.env)
                expect({ code: quick.code, kinds: quick.kinds }).toEqual({
                  code: 1,
                  kinds: ["bytes_missing", "object_unknown", "size_differs"],
                })
                const { code, kinds, report } = await examined(plane.env, "--scrub", "--scrub-rate", "1", "--repair")
                expect({ code, kinds }).toEqual({
                  code: 1,
                  kinds: ["bytes_missing", "digest_differs", "object_unknown", "size_differs"],
                })
                const artifactOf = (kind: string) => report.findings.find((one) => one.kind === kind)?.["artifact"]
                expect(["bytes_missing", "size_differs", "digest_differs"].map(artifactOf)).toEqual([
                  missing,
                  cut,
                  changed,
                ])
                expect(report.findings.some(({ repaired }) => repaired)).toBe(false)
                expect(files(plane.blobDir).sort()).toEqual(before)
                const { code: tableCode, stdout } = await doctor(plane.env)
                expect(tableCode).toBe(1)
                expect(stdout).toContain(`bytes_missing (1): `)
                expect(stdout).toContain(missing)
                unlinkSync(unknown)
              },
            ),
        ),
    )
    expect((await examined(plane.env, "--scrub")).kinds).toEqual([])
  })

  it("finds usage and counters that are wrong, and makes them right when told to", async () => {
    // Reconciliation would find the counters first.
    await query("update project_duties set due_at = clock_timestamp() + interval '1 hour'")
    await query("update projects set used_bytes = used_bytes + 5 where handle = $1", [tenant.project])
    await redis((client) => client.hincrby(`quota:{${tenant.project}}`, "used", 7))
    const found = await examined(plane.env)
    expect({ code: found.code, kinds: found.kinds }).toEqual({ code: 1, kinds: ["counters_differ", "usage_differs"] })
    const repaired = await examined(plane.env, "--repair")
    expect(repaired.report.findings.map((one) => one.repaired)).toEqual([true, true])
    expect(repaired.code).toBe(0)
    expect((await examined(plane.env)).kinds).toEqual([])
    expect(await query("select used_bytes, artifact_count from projects where handle = $1", [tenant.project])).toEqual([
      { used_bytes: "120000", artifact_count: "6" },
    ])
  })

  it("finds events that are missing, misplaced, twice or unknown in the stream", async () => {
    const entries = await redis((client) => client.xrange(plane.streamKey, "-", "+"))
    const [, second, , fourth] = entries
    const fieldsOf = (entry: (typeof entries)[number] | undefined) => entry?.[1] ?? []
    await redis(async (client) => {
      await client.del(plane.streamKey)
      for (const [at, fields] of entries)
        if (at !== "3-0") await client.xadd(plane.streamKey, at, ...(at === "5-0" ? fieldsOf(second) : fields))
      await client.xadd(plane.streamKey, "7-0", ...fieldsOf(fourth))
      await client.xadd(plane.streamKey, "8-0", "id", "sevt_stranger", "type", "t", "project", "p", "payload", "{}")
    })
    await query("update event_sequence set last = 8, last_published = 8")
    try {
      const { code, kinds, report } = await examined(plane.env)
      expect({ code, kinds }).toEqual({
        code: 1,
        kinds: ["event_misplaced", "event_missing", "event_twice", "events_unknown"],
      })
      const placeOf = (kind: string) => report.findings.find((one) => one.kind === kind)?.["sequence"]
      expect(["event_missing", "event_misplaced", "event_twice"].map(placeOf)).toEqual([3, 5, 7])
    } finally {
      await redis(async (client) => {
        await client.del(plane.streamKey)
        for (const [at, fields] of entries) await client.xadd(plane.streamKey, at, ...fields)
      })
      await query("update event_sequence set last = 6, last_published = 6")
    }
    expect((await examined(plane.env)).kinds).toEqual([])
  })

  it("says by its exit code that it could not check, and why", async () => {
    const empty = join(plane.blobDir, "../../empty")
    mkdirSync(empty)
    for (const [env, args, why] of [
      [{ ...plane.env, DATABASE_URL: "postgres://nobody@127.0.0.1:9/none" }, [], "DATABASE_URL cannot be used"],
      [{ ...plane.env, DATA_DIR: empty }, [], "The blob store has no store id"],
      [{ DATA_DIR: empty }, [], "There is no database to check"],
      [plane.env, ["--scrubb"], "--scrubb"],
      [plane.env, ["--scrub-rate", "5"], "--scrub-rate needs --scrub"],
      [plane.env, ["--accept-restore", "--repair"], "stands alone"],
    ] as const) {
      const { code, stderr } = await doctor(env, ...args)
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(why) })
    }
    expect(await doctor(plane.env, "--help")).toMatchObject({ code: 0, stdout: expect.stringContaining("--scrub") })
  })

  it("places the store id on purpose, after the store was moved", async () => {
    const moved = join(plane.blobDir, "../../moved")
    mkdirSync(moved)
    const env = { ...plane.env, DATA_DIR: moved }
    await expect(startNode({ env, readyWithinMs: 120_000 })).rejects.toThrow("--place-store-id")
    expect((await doctor(env, "--place-store-id")).code).toBe(0)
    const node = await startNode({ env, readyWithinMs: 120_000 })
    await node.stop()
  })
})

describe("the doctor of an embedded node", { timeout: 300_000 }, () => {
  it("needs it stopped, and then checks database and files", async () => {
    const home = privateDir("embedded-doctor")
    const env = { DATA_DIR: home.path }
    try {
      const node = await startNode({ env, readyWithinMs: 120_000 })
      const { adminKey } = JSON.parse(
        readFileSync(join(home.path, "dev-credentials.json"), "utf8").replace("admin_key", "adminKey"),
      )
      const tenant = await makeTenant(node.baseUrl, adminKey)
      const { body } = await publish(node.baseUrl, tenant, { name: "f", bytes: randomBytes(20_000) })
      expect(await doctor(env)).toMatchObject({ code: 2, stderr: expect.stringContaining("DATA_DIR") })
      await node.stop()
      expect(await examined(env, "--scrub")).toMatchObject({ code: 0, kinds: [] })
      unlinkSync(fileOf(join(home.path, "blobs"), body.id))
      expect(await examined(env)).toMatchObject({ code: 1, kinds: ["bytes_missing"] })
    } finally {
      home.remove()
    }
  })
})
