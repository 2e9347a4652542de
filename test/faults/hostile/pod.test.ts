import { randomBytes, randomUUID } from "node:crypto"
import { once } from "node:events"
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest"
import { sleep } from "../../support/processes.ts"
import { cpuMicros, forgetPeak, peakBytes } from "../../support/procfs.ts"
import { s3Environment } from "../../support/s3.ts"
import { call, type Tenant } from "../plane.ts"
import { beginUpload } from "../transfers.ts"
import { workHonestly } from "./honest.ts"
import { podMemoryBytes, podNodeOptions } from "./podMemory.ts"
import { artifactsOf, type Scene, startScene } from "./scene.ts"

const MiB = 1024 * 1024
const eventStream = "text/event-stream"

const s3 = inject("s3")

// Without the stand-in the run is already NOT RUN.
describe.skipIf(s3 === null)("a node with the memory of a pod, and a hostile tenant", { timeout: 120_000 }, () => {
  let scene: Scene
  let hostile: Tenant
  let honest: Tenant

  const events = () => `/v1/projects/${hostile.project}/events`

  beforeAll(async () => {
    if (s3 === null) return
    // Of another process than this one, which has hundreds of clients to run. It asks for no credentials.
    const bucket = `pod-${randomUUID()}`
    await fetch(`${s3.endpoint}/${bucket}`, { method: "PUT" })
    scene = await startScene({ ...s3Environment({ ...s3, bucket }), NODE_OPTIONS: podNodeOptions })
    hostile = await scene.tenantOf("hostile")
    honest = await scene.tenantOf("honest")
    const metadata = { text: "x".repeat(65_000) }
    for (let n = 0; n < 40; n++)
      await Promise.all(Array.from({ length: 5 }, () => scene.made(hostile, Buffer.alloc(1), metadata)))
  }, 120_000)
  afterAll(() => scene?.dispose())
  afterEach(() => scene.letGo())

  /** Runs an attack while the honest tenant works; says, and asserts, what it cost. */
  const endure = async (title: string, attack: () => Promise<void>) => {
    const { pid } = scene.plane.node()
    forgetPeak(pid)
    const work = workHonestly(scene, honest)
    const { requests, slowestMillis, wrong } = await attack().then(work.stop, async (error: unknown) => {
      await work.stop()
      throw error
    })
    const peak = peakBytes(pid)
    console.log(
      `${title}: at most ${Math.round(peak / MiB)} MiB resident (VmHWM), the limit is ${podMemoryBytes / MiB}; ` +
        `${requests} requests of the other tenant, the slowest took ${slowestMillis} ms`,
    )
    expect(wrong).toEqual([])
    expect(requests).toBeGreaterThan(8)
    expect(peak).toBeLessThan(podMemoryBytes)
  }

  it("bears 80 and then 200 readers of the largest pages, who take nothing", async () => {
    await endure("stalled lists", async () => {
      const stall = () => scene.stalled(hostile, `${artifactsOf(hostile)}?limit=100`, { requests: 3 })
      for (let n = 0; n < 80; n++) stall()
      await sleep(5000)
      for (let n = 0; n < 120; n++) stall()
      await sleep(8000)
    })
  })

  it("bears 30 event streams that begin at 0, and gives each all events", async () => {
    await endure("event streams from 0", async () => {
      const streams = Array.from({ length: 30 }, () => {
        let text = ""
        const socket = scene.stalled(hostile, `${events()}?after=0`, { accept: eventStream })
        socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk))
        return () => text.split("event: artifact.created\n").length - 1
      })
      for (let n = 0; n < 200 && streams.some((seen) => seen() < 200); n++) await sleep(100)
      expect(streams.map((seen) => seen())).toEqual(streams.map(() => 200))
    })
  })

  it("bears 3,000 event streams to which nothing happens, and spends little on them", async () => {
    const { pid } = scene.plane.node()
    await endure("idle event streams", async () => {
      for (let n = 0; n < 30; n++) {
        const sockets = Array.from({ length: 100 }, () => scene.stalled(hostile, events(), { accept: eventStream }))
        await Promise.all(sockets.map((socket) => once(socket.resume(), "data")))
      }
      // What MAX_OPEN_STREAMS admits; the others were answered 503.
      expect(await scene.gauge("artifact_open_event_streams")).toBeGreaterThanOrEqual(1000)
      await sleep(3000)
    })
    const before = cpuMicros(pid)
    await sleep(5000)
    expect((cpuMicros(pid) - before) / 5e6).toBeLessThan(0.3)
  })

  it("bears 1,200 JSON bodies that are large and never end", async () => {
    const artifact = await scene.made(hostile, Buffer.alloc(1))
    await endure("JSON bodies that never end", async () => {
      const lines = [
        `POST ${artifactsOf(hostile)}/${artifact}/signed-url HTTP/1.1`,
        "Host: here",
        `Authorization: Bearer ${hostile.key}`,
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
      ]
      const begun = Buffer.from(`${lines.join("\r\n")}\r\n\r\nf0000\r\n${" ".repeat(0xf0000)}`)
      for (let n = 0; n < 12; n++) {
        const sockets = Array.from({ length: 100 }, () => scene.connected())
        await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.write(begun, resolve))))
      }
      await sleep(3000)
    })
  })

  it("bears 200 bodies in chunks of one byte, JSON and uploads, and ends none of them for it", async () => {
    const artifact = await scene.made(hostile, Buffer.alloc(1))
    const inBytes = (bytes: string) => [...bytes].map((byte) => `1\r\n${byte}\r\n`).join("")
    const begun = (path: string, type: string, body: string, extra = "") =>
      `POST ${path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer ${hostile.key}\r\nContent-Type: ${type}\r\n${extra}` +
      `Transfer-Encoding: chunked\r\n\r\n${inBytes(body)}`
    const json = begun(`${artifactsOf(hostile)}/${artifact}/signed-url`, "application/json", " ".repeat(60_000))
    const part = `--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n${" ".repeat(200_000)}`
    const upload = begun(
      artifactsOf(hostile),
      "multipart/form-data; boundary=b",
      part,
      `X-Mobius-Lease-Token: ${hostile.token}\r\n`,
    )
    await endure("bodies in chunks of one byte", async () => {
      const sockets = Array.from({ length: 200 }, (_, n) => {
        const socket = scene.connected()
        socket.write(n < 184 ? json : upload)
        return socket
      })
      await sleep(20_000)
      expect(sockets.filter((socket) => socket.destroyed)).toEqual([])
    })
  })

  it("bears 140 downloads from S3 that nobody reads", async () => {
    const path = `${artifactsOf(hostile)}/${await scene.made(hostile, randomBytes(8 * MiB))}/content`
    await endure("stalled downloads", async () => {
      // Few at a time: the stand-in answers one after the other, whoever asks.
      for (let n = 4; n <= 140; n += 4) {
        for (let one = 0; one < 4; one++) scene.stalled(hostile, path)
        expect(await scene.open("artifact_open_downloads", (now) => now >= n)).toBe(n)
      }
      await sleep(3000)
    })
  })

  it("bears 256 uploads under one lease that hardly send, and ends them with their claim", async () => {
    const { baseUrl } = scene.plane.node()
    const codes: Array<string> = []
    const uploads = Array.from({ length: 256 }, () => beginUpload(baseUrl, hostile, "drip.bin"))
    for (const { answer } of uploads)
      void answer.then(
        ({ body, status }) => codes.push(`${status} ${body.error.code}`),
        (error: unknown) => codes.push(String(error)),
      )
    const drip = setInterval(() => {
      for (const upload of uploads) void upload.send(Buffer.from("x")).catch(() => {})
    }, 1000)
    try {
      await endure("uploads that drip", async () => {
        await scene.open("artifact_open_uploads", (now) => now + codes.length >= uploads.length)
        await sleep(3000)
        const claim = `${baseUrl}/v1/projects/${hostile.project}/claims/${hostile.jobId}`
        expect((await call(claim, scene.plane.adminKey, { method: "DELETE" })).status).toBe(204)
        for (let n = 0; n < 200 && codes.length < uploads.length; n++) await sleep(100)
      })
    } finally {
      clearInterval(drip)
      for (const upload of uploads) upload.vanish()
    }
    const ended = codes.filter((code) => code === "409 lease_lost").length
    expect(ended).toBeGreaterThan(100)
    expect(codes.filter((code) => code === "503 service_unavailable").length).toBe(uploads.length - ended)
  })

  it("bears 1,100 connections without a key when it may have 1,024 files open", async () => {
    await scene.plane.node().kill9()
    await scene.plane.start({}, { openFiles: 1024 })
    await endure("connections without a key", async () => {
      for (let n = 0; n < 1100; n++) {
        const socket = scene.connected()
        socket.resume().write("GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        if (n % 32 === 0) await Promise.race([once(socket, "connect"), once(socket, "close")])
      }
      await sleep(3000)
    })
    expect(scene.plane.node().logs()).not.toContain("EMFILE")
  })
})
