import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../../support/processes.ts"
import { isEstablished } from "../../support/procfs.ts"
import { call, type Tenant } from "../plane.ts"
import { artifactsOf, type Scene, startScene } from "./scene.ts"

const MiB = 1024 * 1024

let scene: Scene
const start = async (extra: Record<string, string>) => {
  scene = await startScene(extra)
}
afterEach(() => scene.letGo())

describe("readers that take nothing for DOWNLOAD_IDLE_SECONDS", { timeout: 120_000 }, () => {
  beforeAll(() => start({ DOWNLOAD_IDLE_SECONDS: "2" }), 120_000)
  afterAll(() => scene?.dispose())

  it("are cut off in a download and leave no line in the log; a slow one is served to the end", async () => {
    const tenant = await scene.tenantOf("tenant")
    const size = 24 * MiB
    const path = `${artifactsOf(tenant)}/${await scene.made(tenant, randomBytes(size))}/content`
    for (let n = 0; n < 3; n++) scene.stalled(tenant, path)
    const slow = scene.stalled(tenant, path)
    expect(await scene.open("artifact_open_downloads", (now) => now === 4)).toBe(4)
    let got = 0
    for (let n = 0; n < 100; n++) {
      await sleep(100)
      got += (slow.read(32 * 1024) as Buffer | null)?.length ?? 0
    }
    expect(await scene.gauge("artifact_open_downloads")).toBe(1)
    slow.on("data", (chunk) => (got += chunk.length))
    while (got < size && !slow.destroyed) await sleep(20)
    expect(got).toBeGreaterThan(size)
    expect(await scene.open("artifact_open_downloads", (now) => now === 0)).toBe(0)
    expect(scene.plane.node().logs()).not.toMatch(/"level":"error"/)
  })

  it("are cut off in lists, and what waited for them in memory is free for others", async () => {
    const { baseUrl } = scene.plane.node()
    const port = Number(new URL(baseUrl).port)
    const tenant = await scene.tenantOf("tenant")
    for (let n = 0; n < 20; n++) await scene.made(tenant, Buffer.alloc(1), { text: "x".repeat(60_000) })
    const list = `${artifactsOf(tenant)}?limit=100`
    // A page of 1 MiB. The system takes several of them for each client; of these the node keeps the rest.
    for (let round = 0; round < 2; round++) {
      const readers = Array.from({ length: 4 }, () => scene.stalled(tenant, list, { requests: 12 }))
      await Promise.all(readers.map((reader) => once(reader, "connect")))
      const clients = readers.map(({ localPort }) => localPort ?? 0)
      const open = () => clients.filter((client) => isEstablished(port, client)).length
      expect(open()).toBe(4)
      for (let n = 0; n < 300 && open() > 0; n++) await sleep(100)
      expect(open()).toBe(0)
    }
    // Two rounds are more than the node may keep for its clients.
    expect((await call(baseUrl + list, tenant.key)).status).toBe(200)
  })
})

describe("more open than the limit", { timeout: 60_000 }, () => {
  beforeAll(() => start({ MAX_OPEN_DOWNLOADS: "4", MAX_OPEN_STREAMS: "4" }), 120_000)
  afterAll(() => scene?.dispose())

  const refused = async (tenant: Tenant, path: string) => {
    const response = await fetch(scene.plane.node().baseUrl + path, {
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
    const [first, second] = [await scene.tenantOf("first"), await scene.tenantOf("second")]
    const pathOf = async (tenant: Tenant) =>
      what === "downloads"
        ? `${artifactsOf(tenant)}/${await scene.made(tenant, randomBytes(24 * MiB))}/content`
        : `/v1/projects/${tenant.project}/events`
    const [firstPath, secondPath] = [await pathOf(first), await pathOf(second)]
    for (let n = 0; n < 4; n++) scene.stalled(first, firstPath)
    expect(await scene.open(name, (now) => now === 4)).toBe(4)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    expect(await refused(second, secondPath)).toEqual(unavailable)
    scene.letGo(1)
    expect(await scene.open(name, (now) => now === 3)).toBe(3)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    scene.stalled(second, secondPath)
    expect(await scene.open(name, (now) => now === 4)).toBe(4)
    scene.letGo(2)
    expect(await scene.open(name, (now) => now === 2)).toBe(2)
    scene.stalled(first, firstPath)
    expect(await scene.open(name, (now) => now === 3)).toBe(3)
    expect(await refused(first, firstPath)).toEqual(unavailable)
    expect((await call(`${scene.plane.node().baseUrl}${artifactsOf(first)}`, first.key)).status).toBe(200)
  })
})
