import { randomBytes, randomUUID } from "node:crypto"
import { renameSync } from "node:fs"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { freePort } from "../support/ports.ts"
import { sleep } from "../support/processes.ts"
import { startProxy } from "../support/proxy.ts"
import { s3Environment, startS3StandIn } from "../support/s3.ts"
import {
  answersInTime,
  callNames,
  expectDegraded,
  expectOutage,
  expectRecovery,
  makeScene,
  type Scene,
} from "./outages.ts"
import { call, type Plane, publish, sha256, startPlane } from "./plane.ts"
import { beginUpload } from "./transfers.ts"

const MiB = 1024 * 1024

/** Figures of a run, printed for who wants to see them. */
const report: Array<string> = []

/** Takes something away, looks, brings it back, looks again. */
const outage = async (
  scene: Scene,
  what: {
    readonly name: string
    readonly degraded: ReadonlyArray<string>
    readonly refused: Parameters<typeof expectOutage>[1]
    readonly away: () => Promise<unknown> | void
    readonly back: () => Promise<unknown> | void
  },
) => {
  await what.away()
  let slowest: Record<string, number>
  try {
    slowest = await expectOutage(scene, what.refused)
    await expectDegraded(scene.plane, what.degraded)
  } finally {
    await what.back()
  }
  const recovered = await expectRecovery(scene)
  report.push(
    `${what.name}: slowest answer ${Math.max(...Object.values(slowest))} ms, all well ${recovered} ms after its return`,
  )
}

describe("a dependency that is away", { timeout: 60_000 }, () => {
  let plane: Plane
  let scene: Scene

  beforeAll(async () => {
    plane = await startPlane({
      SWEEP_SECONDS: "1",
      ABANDONED_AFTER_SECONDS: "3",
      // A pod of a cluster, whose shard locks and messages have to outlive an outage too.
      RUNNER_HOST: "127.0.0.1",
      RUNNER_PORT: String(await freePort()),
    })
  }, 120_000)
  afterAll(async () => {
    await plane?.dispose()
    console.log(report.join("\n"))
  })
  const fresh = async () => {
    await expectDegraded(plane, [])
    scene = await makeScene(plane)
    return scene
  }

  it("Postgres stopped: 503 for all that need it, and well again when it is back", async () => {
    const { postgres } = plane
    await outage(await fresh(), {
      name: "Postgres stopped",
      degraded: ["postgres"],
      refused: callNames,
      away: () => postgres.stop(),
      back: () => postgres.start(),
    })
  })

  it("Postgres hanging: the same, without anybody hanging with it", async () => {
    const { postgres } = plane
    await outage(await fresh(), {
      name: "Postgres hanging",
      degraded: ["postgres"],
      refused: callNames,
      away: () => postgres.pause(),
      back: () => postgres.resume(),
    })
  })

  it("Redis stopped: publishing is refused, all else goes on", async () => {
    await outage(await fresh(), {
      name: "Redis stopped",
      degraded: ["redis"],
      refused: ["publish"],
      away: () => plane.redis.stop(),
      back: () => plane.redis.start(),
    })
  })

  it("Redis hanging: the same", async () => {
    await outage(await fresh(), {
      name: "Redis hanging",
      degraded: ["redis"],
      refused: ["publish"],
      away: () => plane.redis.pause(),
      back: () => plane.redis.resume(),
    })
  })

  it("the folder of the files gone: bytes are refused, all else goes on, and no delete claims to be done", async () => {
    const elsewhere = `${plane.blobDir}-elsewhere`
    await outage(await fresh(), {
      name: "files gone",
      degraded: ["blob_store"],
      refused: ["publish", "read", "remove"],
      away: () => renameSync(plane.blobDir, elsewhere),
      back: () => renameSync(elsewhere, plane.blobDir),
    })
  })

  it("an upload goes on while Postgres is away, and is an artifact when it is back in time", async () => {
    const { tenant } = await fresh()
    const upload = beginUpload(plane.node().baseUrl, tenant, "patient.bin")
    const bytes = randomBytes(4 * MiB)
    await upload.send(bytes.subarray(0, MiB))
    await sleep(200)
    plane.postgres.pause()
    await upload.send(bytes.subarray(MiB))
    await expectDegraded(plane, ["postgres"])
    plane.postgres.resume()
    await expectDegraded(plane, [])
    upload.finish()
    const { body, status } = await upload.answer
    expect(status).toBe(201)
    expect(body.sha256).toBe(sha256(bytes))
  })

  it("an upload that ends while Postgres hangs is answered in time, and leaves nothing", async () => {
    const { tenant } = await fresh()
    const upload = beginUpload(plane.node().baseUrl, tenant, "unlucky.bin")
    await upload.send(randomBytes(MiB))
    await sleep(200)
    plane.postgres.pause()
    const { status } = await answersInTime(plane, () => {
      upload.finish()
      return upload.answer
    })
    plane.postgres.resume()
    expect(status).toBe(503)
    await expectRecovery(scene)
    const until = Date.now() + 20_000
    for (;;) {
      const { body } = await call(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/quota`, tenant.key)
      if (body.pending_count === 0) break
      if (Date.now() > until) expect(body.pending_count).toBe(0)
      await sleep(200)
    }
  })

  it("an upload whose room was reserved before Redis went away is published", async () => {
    const { tenant } = await fresh()
    const bytes = randomBytes(100_000)
    const upload = beginUpload(plane.node().baseUrl, tenant, "reserved.bin")
    await upload.send(bytes)
    await sleep(200)
    await plane.redis.stop()
    const { status } = await answersInTime(plane, () => {
      upload.finish()
      return upload.answer
    })
    expect(status).toBe(201)
    await plane.redis.start()
    await expectRecovery(scene)
  })

  describe("a commit that has to wait", () => {
    /** Holds the project's row, in whose queue commits stand, until the returned function is called. */
    const holdProject = async (project: string) => {
      const holder = new pg.Client({ connectionString: plane.postgres.url })
      holder.on("error", () => {})
      await holder.connect()
      await holder.query("begin")
      await holder.query("select 1 from projects where handle = $1 for update", [project])
      return () => holder.end()
    }

    it("waits for as long as Postgres lives", async () => {
      const { tenant } = await fresh()
      const letGo = await holdProject(tenant.project)
      const answer = publish(plane.node().baseUrl, tenant, { name: "queued", bytes: randomBytes(1000) })
      await sleep(2700)
      await letGo()
      expect((await answer).status).toBe(201)
    })

    it("is answered in time when Postgres hangs meanwhile, and is one artifact for who tries again", async () => {
      const { tenant } = await fresh()
      const file = { name: "queued", bytes: randomBytes(1000), key: randomUUID() }
      const before = await call(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/quota`, tenant.key)
      const letGo = await holdProject(tenant.project)
      const answer = publish(plane.node().baseUrl, tenant, file)
      await sleep(700)
      plane.postgres.pause()
      expect((await answersInTime(plane, () => answer)).status).toBe(503)
      plane.postgres.resume()
      await letGo()
      const until = Date.now() + 20_000
      let again = await publish(plane.node().baseUrl, tenant, file)
      while (again.status >= 400 && Date.now() < until) {
        expect([409, 503]).toContain(again.status)
        await sleep(200)
        again = await publish(plane.node().baseUrl, tenant, file)
      }
      expect([200, 201]).toContain(again.status)
      const { body: page } = await call(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts`, tenant.key)
      expect(page.items.filter((item: { name: string }) => item.name === "queued")).toHaveLength(1)
      const { body: after } = await call(
        `${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/quota`,
        tenant.key,
      )
      expect(after.used_bytes - before.body.used_bytes).toBe(1000)
      const content = await fetch(
        `${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/${again.body.id}/content`,
        { headers: { authorization: `Bearer ${tenant.key}` } },
      )
      expect(sha256(new Uint8Array(await content.arrayBuffer()))).toBe(sha256(file.bytes))
    })
  })
})

describe("an S3 store that is away", { timeout: 60_000 }, () => {
  it("refusing or hanging: bytes are refused in time, all else goes on", async () => {
    const s3 = await startS3StandIn()
    const { hostname, port } = new URL(s3.endpoint)
    const proxy = await startProxy({ host: hostname, port: Number(port) })
    const plane = await startPlane(s3Environment({ ...s3, endpoint: `http://127.0.0.1:${proxy.port}` }))
    try {
      for (const [name, away] of [
        ["S3 refusing", () => proxy.refuse()],
        ["S3 hanging", () => proxy.stall()],
      ] as const)
        await outage(await makeScene(plane), {
          name,
          degraded: ["blob_store"],
          refused: ["publish", "read", "remove"],
          away,
          back: () => proxy.resume(),
        })
      console.log(report.slice(-2).join("\n"))
    } finally {
      await plane.dispose()
      await proxy.dispose()
      await s3.stop()
    }
  })
})
