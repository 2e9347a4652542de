import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { freePort } from "../support/ports.ts"
import { sleep } from "../support/processes.ts"
import { s3Environment, type S3Server, startS3StandIn } from "../support/s3.ts"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

const MiB = 1024 * 1024

let plane: Plane
let metrics: string
let sockets: Array<Socket> = []

const start = async (extra: Record<string, string>) => {
  const port = await freePort()
  metrics = `http://127.0.0.1:${port}/metrics`
  plane = await startPlane({ METRICS_PORT: String(port), ...extra })
}
const tenantOf = (name: string) => makeTenant(plane.node().baseUrl, plane.adminKey, { name })
const artifactsOf = ({ project }: Tenant) => `/v1/projects/${project}/artifacts`

afterEach(() => {
  for (const socket of sockets) socket.destroy()
  sockets = []
})

const made = async (tenant: Tenant, bytes: Uint8Array<ArrayBuffer>, metadata?: object) => {
  const fields = metadata === undefined ? {} : { fields: { metadata: JSON.stringify(metadata) } }
  const { body, status } = await publish(plane.node().baseUrl, tenant, { name: "file", bytes, ...fields })
  expect(status, JSON.stringify(body)).toBe(201)
  return body.id as string
}

/** Sends requests on one connection and reads nothing. */
const stalled = (tenant: Tenant, path: string, requests = 1): Socket => {
  const { port } = new URL(plane.node().baseUrl)
  const socket = connect(Number(port), "127.0.0.1")
  socket.on("error", () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer ${tenant.key}\r\n\r\n`.repeat(requests))
  sockets.push(socket)
  return socket
}

const gauge = async (name: string) => {
  const text = await (await fetch(metrics)).text()
  return Number(new RegExp(`^${name} (\\d+)`, "m").exec(text)?.[1] ?? Number.NaN)
}

/** Waits until so many are open, or for 60 s at the most; how many are. */
const open = async (name: string, wanted: (open: number) => boolean) => {
  for (let n = 0; n < 600; n++) {
    const now = await gauge(name)
    if (wanted(now)) return now
    await sleep(100)
  }
  return await gauge(name)
}

const residentBytes = () =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${plane.node().pid}/status`, "utf8"))?.[1] ?? 0) * 1024

/** One publish and one read by another tenant; how they were answered, each within 10 s. */
const served = async (tenant: Tenant) => {
  const signal = AbortSignal.timeout(10_000)
  const bytes = randomBytes(30_000)
  const { body, status } = await publish(plane.node().baseUrl, tenant, { name: "mine", bytes, signal })
  const content = `${plane.node().baseUrl}${artifactsOf(tenant)}/${body?.id}/content`
  return [status, (await call(content, tenant.key, { signal: AbortSignal.timeout(10_000) })).status]
}

describe("readers of lists that stall", { timeout: 120_000 }, () => {
  beforeAll(() => start({ DOWNLOAD_IDLE_SECONDS: "600" }), 120_000)
  afterAll(() => plane?.dispose())

  it("cost bounded memory, and another tenant is served meanwhile", async () => {
    const hostile = await tenantOf("hostile")
    const honest = await tenantOf("honest")
    const metadata = { text: "x".repeat(65_000) }
    for (let n = 0; n < 20; n++)
      await Promise.all(Array.from({ length: 5 }, () => made(hostile, Buffer.alloc(1), metadata)))
    await served(honest)
    const before = residentBytes()
    for (let n = 0; n < 4; n++) stalled(hostile, `${artifactsOf(hostile)}?limit=100`, 20)
    let peak = 0
    for (let n = 0; n < 150; n++) {
      peak = Math.max(peak, residentBytes())
      await sleep(100)
    }
    expect((peak - before) / MiB).toBeLessThan(300)
    expect(await served(honest)).toEqual([201, 200])
  })
})

describe("readers that take nothing for DOWNLOAD_IDLE_SECONDS", { timeout: 120_000 }, () => {
  beforeAll(() => start({ DOWNLOAD_IDLE_SECONDS: "2" }), 120_000)
  afterAll(() => plane?.dispose())

  it("are cut off in a download and leave no line in the log; a slow one is served to the end", async () => {
    const tenant = await tenantOf("tenant")
    const size = 24 * MiB
    const path = `${artifactsOf(tenant)}/${await made(tenant, randomBytes(size))}/content`
    for (let n = 0; n < 3; n++) stalled(tenant, path)
    const slow = stalled(tenant, path)
    expect(await open("artifact_open_downloads", (now) => now === 4)).toBe(4)
    let got = 0
    for (let n = 0; n < 100; n++) {
      await sleep(100)
      got += (slow.read(32 * 1024) as Buffer | null)?.length ?? 0
    }
    expect(await gauge("artifact_open_downloads")).toBe(1)
    slow.on("data", (chunk) => (got += chunk.length))
    while (got < size && !slow.destroyed) await sleep(20)
    expect(got).toBeGreaterThan(size)
    expect(await open("artifact_open_downloads", (now) => now === 0)).toBe(0)
    expect(plane.node().logs()).not.toMatch(/"level":"error"/)
  })
})

describe("more open than the limit", { timeout: 60_000 }, () => {
  beforeAll(() => start({ MAX_OPEN_DOWNLOADS: "4", MAX_OPEN_STREAMS: "4" }), 120_000)
  afterAll(() => plane?.dispose())

  const refused = async (tenant: Tenant, path: string) => {
    const response = await fetch(plane.node().baseUrl + path, {
      headers: { authorization: `Bearer ${tenant.key}`, accept: "text/event-stream" },
    })
    const answer = [response.status, Number(response.headers.get("retry-after")) > 0]
    const code = response.status === 200 ? undefined : JSON.parse(await response.text()).error.code
    await response.body?.cancel().catch(() => {})
    return [...answer, code]
  }
  const unavailable = [503, true, "service_unavailable"]

  it.each([
    ["downloads", "artifact_open_downloads"],
    ["event streams", "artifact_open_event_streams"],
  ])("%s are 503 with Retry-After, and half of them are another project's", async (what, name) => {
    const [first, second] = [await tenantOf("first"), await tenantOf("second")]
    const pathOf = async (tenant: Tenant) =>
      what === "downloads"
        ? `${artifactsOf(tenant)}/${await made(tenant, randomBytes(24 * MiB))}/content`
        : `/v1/projects/${tenant.project}/events`
    const [firstPath, secondPath] = [await pathOf(first), await pathOf(second)]
    for (let n = 0; n < 4; n++) stalled(first, firstPath)
    expect(await open(name, (now) => now === 4)).toBe(4)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    expect(await refused(second, secondPath)).toEqual(unavailable)
    sockets.pop()?.destroy()
    expect(await open(name, (now) => now === 3)).toBe(3)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    stalled(second, secondPath)
    expect(await open(name, (now) => now === 4)).toBe(4)
    for (const socket of sockets.splice(0, 2)) socket.destroy()
    expect(await open(name, (now) => now === 2)).toBe(2)
    stalled(first, firstPath)
    expect(await open(name, (now) => now === 3)).toBe(3)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    expect((await call(`${plane.node().baseUrl}${artifactsOf(first)}`, first.key)).status).toBe(200)
  })
})

describe("downloads from S3 that stall", { timeout: 120_000 }, () => {
  let s3: S3Server
  beforeAll(async () => {
    s3 = await startS3StandIn()
    await start(s3Environment(s3))
  }, 120_000)
  afterAll(async () => {
    await plane?.dispose()
    await s3?.stop()
  })

  it("140 of them keep no other tenant from publishing and reading", async () => {
    const hostile = await tenantOf("hostile")
    const honest = await tenantOf("honest")
    const path = `${artifactsOf(hostile)}/${await made(hostile, randomBytes(20 * MiB))}/content`
    for (let n = 0; n < 140; n++) stalled(hostile, path)
    expect(await open("artifact_open_downloads", (now) => now > 124)).toBeGreaterThan(124)
    for (let n = 0; n < 3; n++) expect(await served(honest)).toEqual([201, 200])
  })
})
