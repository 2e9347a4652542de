import { randomBytes } from "node:crypto"
import { request } from "node:http"
import { Redis } from "ioredis"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../support/processes.ts"
import { type Proxy, startProxy } from "../support/proxy.ts"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

const MiB = 1024 * 1024

describe("room that a delete freed is usable within 5 s", { timeout: 60_000 }, () => {
  let plane: Plane
  let proxy: Proxy
  let db: pg.Client
  const start = () => plane.start({ REDIS_URL: `redis://127.0.0.1:${proxy.port}` })
  beforeAll(async () => {
    plane = await startPlane()
    proxy = await startProxy({ host: "127.0.0.1", port: plane.redis.port })
    await plane.node().kill9()
    await start()
    db = new pg.Client({ connectionString: plane.postgres.url })
    await db.connect()
  }, 120_000)
  afterAll(async () => {
    await db?.end()
    await plane?.dispose()
    await proxy?.dispose()
  })

  /** A full project of two artifacts, whose counters are compared with the books by nobody for an hour. */
  const fullProject = async () => {
    const tenant = await makeTenant(plane.node().baseUrl, plane.adminKey, { quotaBytes: 2 * MiB })
    const ids: Array<string> = []
    for (const name of ["one", "two"]) {
      const { body, status } = await publish(plane.node().baseUrl, tenant, { name, bytes: randomBytes(MiB) })
      expect(status).toBe(201)
      ids.push(body.id)
    }
    // The counters hear of a commit beside its answer.
    for (const until = Date.now() + 5000; (await usedByCounters(tenant)) < 2 * MiB && Date.now() < until;)
      await sleep(10)
    expect(await usedByCounters(tenant)).toBe(2 * MiB)
    await db.query("update project_duties set due_at = clock_timestamp() + interval '1 hour' where project = $1", [
      tenant.project,
    ])
    return { tenant, ids }
  }
  const pathOf = (tenant: Tenant, id: string) => `/v1/projects/${tenant.project}/artifacts/${id}`
  const remove = (tenant: Tenant, id: string) =>
    call(plane.node().baseUrl + pathOf(tenant, id), tenant.key, { method: "DELETE" })
  const deleted = async (ids: ReadonlyArray<string>) => {
    const until = Date.now() + 5000
    const count = async () =>
      (await db.query("select count(*)::int as n from artifacts where id = any($1) and state = 'deleted'", [ids]))
        .rows[0].n
    while ((await count()) < ids.length && Date.now() < until) await sleep(5)
    expect(await count()).toBe(ids.length)
  }
  const usedByCounters = async ({ project }: Tenant) => {
    const redis = new Redis(plane.redis.url)
    return Number(await redis.hget(`quota:{${project}}`, "used").finally(() => redis.disconnect()))
  }
  /** What a file as large as the quota is answered last, asked for up to 5 s. */
  const wholeQuota = async (tenant: Tenant) => {
    const until = Date.now() + 5000
    for (;;) {
      const file = { name: "whole", bytes: randomBytes(2 * MiB) }
      const { body, status } = await publish(plane.node().baseUrl, tenant, file)
      if (status === 201 || Date.now() > until) return [status, body.error?.code]
      await sleep(100)
    }
  }

  it("when the caller leaves before the delete is committed: the counters hear of it all the same", async () => {
    const { ids, tenant } = await fullProject()
    await db.query("begin")
    await db.query("select 1 from projects where handle = $1 for update", [tenant.project])
    const leave = ids.map((id) => {
      const { hostname, port } = new URL(plane.node().baseUrl)
      const headers = { authorization: `Bearer ${tenant.key}` }
      const req = request({ hostname, port, path: pathOf(tenant, id), method: "DELETE", headers, agent: false })
      req.on("error", () => {})
      req.end()
      return () => req.destroy()
    })
    await sleep(500)
    for (const go of leave) go()
    await sleep(300)
    await db.query("commit")
    await deleted(ids)
    const until = Date.now() + 2000
    while ((await usedByCounters(tenant)) > 0 && Date.now() < until) await sleep(20)
    expect(await usedByCounters(tenant)).toBe(0)
    expect(await wholeQuota(tenant)).toEqual([201, undefined])
  })

  it("when Redis is away during the delete, which is answered 204", async () => {
    const { ids, tenant } = await fullProject()
    await proxy.refuse()
    const answers = await Promise.all(ids.map((id) => remove(tenant, id)))
    await proxy.resume()
    expect(answers.map(({ status }) => status)).toEqual([204, 204])
    await answering(tenant)
    expect(await usedByCounters(tenant)).toBe(2 * MiB)
    expect(await wholeQuota(tenant)).toEqual([201, undefined])
  })

  it("when the pod is killed right after the delete", async () => {
    const { ids, tenant } = await fullProject()
    proxy.stall()
    for (const id of ids) remove(tenant, id).catch(() => {})
    await deleted(ids)
    await plane.node().kill9()
    await proxy.refuse()
    await proxy.resume()
    await start()
    expect(await usedByCounters(tenant)).toBe(2 * MiB)
    expect(await wholeQuota(tenant)).toEqual([201, undefined])
  })

  it("when Postgres was restored to books of an earlier version", async () => {
    const { ids, tenant } = await fullProject()
    await db.query("delete from events where artifact_id = any($1)", [ids])
    await db.query("delete from artifacts where id = any($1)", [ids])
    await db.query("update projects set used_bytes = 0, artifact_count = 0, usage_version = 1 where handle = $1", [
      tenant.project,
    ])
    expect(await usedByCounters(tenant)).toBe(2 * MiB)
    expect(await wholeQuota(tenant)).toEqual([201, undefined])
  })

  it("and a project that is really full is refused as before", async () => {
    const { tenant } = await fullProject()
    expect(await wholeQuota(tenant)).toEqual([413, "quota_exceeded"])
  })

  /** Until the node has found that Redis is back. */
  const answering = async (tenant: Tenant) => {
    const until = Date.now() + 5000
    const url = `${plane.node().baseUrl}/v1/admin/projects/${tenant.project}`
    while ((await call(url, plane.adminKey)).status !== 200 && Date.now() < until) await sleep(50)
  }
})
