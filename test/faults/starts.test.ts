import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { freePort } from "../support/ports.ts"
import { privateDir, sleep, spawnRecorded, type Spawned, waitForHttp200, waitForLine } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

const root = join(import.meta.dirname, "../..")
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string }
const bytes = new Uint8Array(1000)
const nextKey = `mbx_${randomBytes(32).toString("hex")}`

/** A start takes about a second; more on a machine that is busy with other things. Milliseconds. */
const patience = 100_000

let plane: Plane
let tenant: Tenant
let env: Record<string, string>

beforeAll(async () => {
  plane = await startPlane()
  tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
  await plane.node().stop()
  env = {
    PATH: process.env["PATH"] ?? "",
    HOME: process.env["HOME"] ?? "",
    HOST: "127.0.0.1",
    METRICS_PORT: "0",
    DATABASE_URL: plane.postgres.url,
    REDIS_URL: plane.redis.url,
    DATA_DIR: join(plane.blobDir, ".."),
    BOOTSTRAP_API_KEY: `${plane.adminKey},${nextKey}`,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
    EVENT_STREAM_KEY: plane.streamKey,
  }
}, 120_000)

afterAll(async () => {
  await plane?.dispose()
})

interface Started extends Spawned {
  readonly baseUrl: string
}

/** The product's process, begun and not waited for. */
const begin = async (environment: Record<string, string>): Promise<Started> => {
  const port = await freePort()
  const spawned = await spawnRecorded(process.execPath, ["src/main.ts"], {
    cwd: root,
    env: { ...environment, PORT: String(port) },
  })
  return { ...spawned, baseUrl: `http://127.0.0.1:${port}` }
}

const linesOf = ({ logs }: Pick<Spawned, "logs">) =>
  logs()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, string>)

const statusOf = async (url: string) => (await fetch(url, { signal: AbortSignal.timeout(3000) })).status

describe("a start", { timeout: 150_000 }, () => {
  it("of a production node is one line, and so is the end of its stop; /version and a metric say the same", async () => {
    const metricsPort = await freePort()
    const node = await begin({
      ...env,
      METRICS_PORT: String(metricsPort),
      BUILD_COMMIT: "0abc",
      EVENT_RETENTIONS: "60",
    })
    await waitForHttp200(node, `${node.baseUrl}/readyz`, patience)
    await waitForLine(node, "Serving.", patience)
    const lines = linesOf(node)
    expect(lines[0]).toMatchObject({ level: "warning" })
    expect(lines[0]?.["message"]).toMatch(/EVENT_RETENTIONS.*EVENT_RETENTION\b/)
    const serving = lines.filter(({ message }) => message === "Serving.")
    expect(serving).toHaveLength(1)
    expect(serving[0]).toMatchObject({
      level: "info",
      version,
      commit: "0abc",
      node: process.versions.node,
      address: node.baseUrl,
      stack: `production: Postgres, Redis, files in ${plane.blobDir}`,
      schema: expect.stringMatching(/^\d{4}_\w+$/),
    })
    expect(await (await fetch(`${node.baseUrl}/version`)).json()).toEqual({
      version,
      commit: "0abc",
      node: process.versions.node,
    })
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
    expect(metrics).toContain(`artifact_build_info{version="${version}",node="${process.versions.node}"} 1`)
    for (const key of [plane.adminKey, nextKey])
      expect((await call(`${node.baseUrl}/v1/admin/projects/${tenant.project}`, key)).status).toBe(200)
    await node.end("SIGTERM", 45_000)
    expect(node.child.exitCode).toBe(0)
    expect(linesOf(node).at(-1)).toMatchObject({ level: "info", message: "Stopped.", version })
  })

  it("goes on while Redis is away: ready and degraded, one line when it is away, one when it is back", async () => {
    await plane.redis.stop()
    const node = await begin(env)
    await waitForHttp200(node, `${node.baseUrl}/readyz`, patience)
    expect(await (await fetch(`${node.baseUrl}/readyz`)).json()).toEqual({ status: "degraded", degraded: ["redis"] })
    const list = `${node.baseUrl}/v1/projects/${tenant.project}/artifacts`
    expect((await call(list, tenant.key)).status).toBe(200)
    expect((await publish(node.baseUrl, tenant, { name: "a.txt", bytes })).status).toBe(503)
    const about = () => linesOf(node).filter(({ dependency }) => dependency === "redis")
    expect(about()).toMatchObject([{ level: "warning", message: "Redis cannot be used." }])
    expect(about()[0]?.["error"]).toContain("ECONNREFUSED")
    await plane.redis.start()
    await waitForLine(node, /Redis is back after [\d.]+ s\./, patience)
    expect((await publish(node.baseUrl, tenant, { name: "a.txt", bytes })).status).toBe(201)
    expect(about()).toHaveLength(2)
    await node.end("SIGTERM", 45_000)
    expect(node.child.exitCode).toBe(0)
  })

  it("waits for Postgres: alive, not ready, a line each attempt, and serves once it is there", async () => {
    await plane.postgres.stop()
    const node = await begin(env)
    await waitForHttp200(node, `${node.baseUrl}/healthz`, patience)
    const ready = await fetch(`${node.baseUrl}/readyz`)
    expect(ready.status).toBe(503)
    expect(await ready.json()).toMatchObject({
      error: { code: "service_unavailable", message: "Not reached yet: postgres." },
    })
    const refused = await publish(node.baseUrl, tenant, { name: "a.txt", bytes })
    expect(refused.status).toBe(503)
    await sleep(4000)
    expect(node.running()).toBe(true)
    const waiting = linesOf(node).filter(({ dependency }) => dependency === "postgres")
    expect(waiting.length).toBeGreaterThan(1)
    expect(waiting[0]).toMatchObject({ level: "warning", message: "Waiting for postgres, which cannot be reached." })
    await plane.postgres.start()
    await waitForHttp200(node, `${node.baseUrl}/readyz`, patience)
    expect((await publish(node.baseUrl, tenant, { name: "b.txt", bytes })).status).toBe(201)
    await node.end("SIGTERM", 45_000)
    expect(node.child.exitCode).toBe(0)
  })

  it("waits for the blob store as well", async () => {
    const node = await begin({
      ...env,
      S3_BUCKET: "b",
      S3_ENDPOINT: `http://127.0.0.1:${await freePort()}`,
      AWS_ACCESS_KEY_ID: "a",
      AWS_SECRET_ACCESS_KEY: "b",
    })
    await waitForHttp200(node, `${node.baseUrl}/healthz`, patience)
    const { error } = (await (await fetch(`${node.baseUrl}/readyz`)).json()) as { error: { message: string } }
    expect(error.message).toBe("Not reached yet: blob_store.")
    await node.end("SIGTERM", 10_000)
    expect(node.child.exitCode).toBe(0)
  })

  it("that waits ends at SIGTERM", async () => {
    const node = await begin({ ...env, DATABASE_URL: `postgres://u:p@127.0.0.1:${await freePort()}/db` })
    await waitForHttp200(node, `${node.baseUrl}/healthz`, patience)
    expect(await statusOf(`${node.baseUrl}/readyz`)).toBe(503)
    await node.end("SIGTERM", 10_000)
    expect(node.child.exitCode).toBe(0)
    expect(linesOf(node).at(-1)).toMatchObject({ message: "Stopped." })
  })

  it("ends with one clear line when a server answers that it will not have us", async () => {
    const wrong = new URL(plane.postgres.url)
    wrong.pathname = "/no-such-database"
    const node = await begin({ ...env, DATABASE_URL: wrong.href })
    await node.ended
    expect(node.child.exitCode).toBe(1)
    expect(node.logs()).toBe(
      "DATABASE_URL cannot be used: check its address, its credentials and that Postgres runs.\n",
    )
  })

  it("tells all that is wrong with the settings at once, and which key may be meant", async () => {
    const home = privateDir("starts")
    const node = await begin({
      ...env,
      REDIS_URL: "",
      REDIS_ULR: plane.redis.url,
      METRICS_PORT: "x",
      DATA_DIR: home.path,
    })
    await node.ended
    home.remove()
    expect(node.child.exitCode).toBe(1)
    expect(node.logs().trim().split("\n").toSorted()).toEqual([
      "METRICS_PORT must be an integer from 0 to 65535",
      "REDIS_URL is missing: DATABASE_URL and REDIS_URL go together (both for a production node, neither for an embedded one)",
      "The environment has REDIS_ULR, which is no setting and has no effect: is REDIS_URL meant?",
    ])
  })

  it("of an embedded node says so, and where the admin key is kept", async () => {
    const home = privateDir("starts")
    const { HOME, HOST, METRICS_PORT, PATH } = env as Record<"HOME" | "HOST" | "METRICS_PORT" | "PATH", string>
    const node = await begin({ HOME, HOST, METRICS_PORT, PATH, DATA_DIR: home.path })
    const file = join(home.path, "dev-credentials.json")
    await waitForLine(node, `admin_key in ${file}`, patience)
    expect(node.logs()).toMatch(/INFO Serving\. .*stack=embedded: a database of its own in /)
    const { admin_key } = JSON.parse(readFileSync(file, "utf8"))
    expect(node.logs()).not.toContain(admin_key)
    expect((await call(`${node.baseUrl}/v1/admin/projects/demo`, admin_key)).status).toBe(200)
    await node.end("SIGTERM", 45_000)
    home.remove()
  })
})
