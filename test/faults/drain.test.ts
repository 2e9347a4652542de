import { randomBytes } from "node:crypto"
import { readdirSync } from "node:fs"
import { Agent, type IncomingHttpHeaders, request } from "node:http"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish, sha256, startPlane, type Tenant } from "./plane.ts"
import { beginDownload, beginUpload } from "./transfers.ts"

const MiB = 1024 * 1024

let plane: Plane
let tenant: Tenant

beforeAll(async () => {
  plane = await startPlane({ SWEEP_SECONDS: "1", ABANDONED_AFTER_SECONDS: "3" })
  tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
  await plane.node().stop()
}, 120_000)

afterAll(async () => {
  await plane?.dispose()
})

const ended = (child: {
  once(event: "exit", listener: (code: number | null, signal: string | null) => void): unknown
}) =>
  new Promise<{ readonly code: number | null; readonly signal: string | null; readonly at: number }>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal, at: Date.now() }))
  })

/** A GET on a connection of the agent's, with the headers of its answer; rejects when there is none. */
const get = (path: string, agent: Agent | false = false) =>
  new Promise<{ readonly status: number; readonly headers: IncomingHttpHeaders }>((resolve, reject) => {
    const headers = { authorization: `Bearer ${tenant.key}` }
    request(`${plane.node().baseUrl}${path}`, agent === false ? { headers, agent } : { headers, agent }, (res) => {
      res.resume()
      res.on("end", () => resolve({ status: res.statusCode ?? 0, headers: res.headers }))
      res.on("error", reject)
    })
      .on("error", reject)
      .end()
  })

/** What a step came to; when it takes longer than any should, says which it was and what the node wrote. */
const within = async <A>(step: string, outcome: Promise<A>): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${step}: nothing in 20 s\n${plane.node().logs().slice(-4000)}`)), 20_000)
  })
  return await Promise.race([outcome, late]).finally(() => clearTimeout(timer))
}

const list = () => `/v1/projects/${tenant.project}/artifacts`

const filesStored = () =>
  readdirSync(plane.blobDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length

const eventsRelayed = async () => {
  const redis = new Redis(plane.redis.url)
  try {
    return await redis.xlen(plane.streamKey)
  } finally {
    redis.disconnect()
  }
}

const listenForEvents = async () => {
  const response = await fetch(`${plane.node().baseUrl}/v1/projects/${tenant.project}/events`, {
    headers: { authorization: `Bearer ${tenant.key}` },
  })
  return { text: response.text().then((text) => ({ text, at: Date.now() })) }
}

describe("SIGTERM", { timeout: 60_000 }, () => {
  it("serves until the balancer has noticed, then lets what is in flight finish, and ends with 0", async () => {
    await within("the start", plane.start({ DRAIN_DELAY_SECONDS: "4", DRAIN_SECONDS: "15" }))
    const node = plane.node()
    const bytes = randomBytes(48 * MiB)
    const { body } = await within("publishing", publish(node.baseUrl, tenant, { name: "large.bin", bytes }))
    const half = randomBytes(MiB)
    const upload = beginUpload(node.baseUrl, tenant, "slow.bin")
    await within("the upload's first half", upload.send(half))
    const download = await within("the download's head", beginDownload(node.baseUrl, tenant, body.id))
    const events = await within("the event stream's head", listenForEvents())
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    expect((await within("the first list", get(list(), agent))).headers.connection).toBe("keep-alive")
    const silent = new Agent({ keepAlive: true, maxSockets: 1 })
    await within("the second list", get(list(), silent))

    const exit = ended(node.child)
    const asked = Date.now()
    node.child.kill("SIGTERM")
    const stream = await within("the event stream's end", events.text)
    expect(stream.at - asked).toBeLessThan(1000)
    expect(stream.text).toMatch(/\nretry: \d{3,4}\n\n$/)
    expect((await within("readiness", get("/readyz"))).status).toBe(503)
    // One on the connection kept from before, the others on new ones.
    for (const connection of [agent, false, false] as const) {
      const answer = await within("a list while draining", get(list(), connection))
      expect(answer.status).toBe(200)
      expect(answer.headers.connection).toBe("close")
    }
    // The actors were let go first: another process, or this one's next life, relays the event.
    await sleep(300)
    const relayed = await eventsRelayed()
    const late = await within(
      "the late publish",
      publish(node.baseUrl, tenant, { name: "late.txt", bytes: randomBytes(1000) }),
    )
    expect(late.status).toBe(201)
    await sleep(400)
    expect(await eventsRelayed()).toBe(relayed)
    expect(
      (
        await within(
          "the late event stream",
          listenForEvents().then(({ text }) => text),
        )
      ).text,
    ).toMatch(/\nretry: \d{3,4}\n\n$/)
    expect(Date.now() - asked).toBeLessThan(4000)

    await sleep(asked + 4300 - Date.now())
    await expect(within("a list after the listener", get(list()))).rejects.toThrow(/ECONNREFUSED/)
    await expect(within("a list on a closed connection", get(list(), silent))).rejects.toThrow(/ECONNREFUSED/)
    await within("the upload's second half", upload.send(half))
    upload.finish()
    const answer = await within("the upload's answer", upload.answer)
    expect(answer.status).toBe(201)
    expect(answer.headers.connection).toBe("close")
    expect(await within("the download's end", download.rest())).toEqual({ bytes: bytes.length, sha256: sha256(bytes) })
    const { at, code } = await within("the exit", exit)
    expect(code).toBe(0)
    expect(at - asked).toBeLessThan(15_000)
    agent.destroy()
    silent.destroy()

    await within("the next start", plane.start())
    const until = Date.now() + 10_000
    while ((await eventsRelayed()) < relayed + 2 && Date.now() < until) await sleep(50)
    expect(await eventsRelayed()).toBe(relayed + 2)
    const again = await within("the next download's head", beginDownload(plane.node().baseUrl, tenant, answer.body.id))
    expect((await within("the next download's end", again.rest())).sha256).toBe(sha256(Buffer.concat([half, half])))
    await within("the next stop", plane.node().stop())
  })

  it("cuts off at the cap what does not end: not acknowledged, nothing left of it, and 0 all the same", async () => {
    await plane.start({ DRAIN_SECONDS: "2" })
    const node = plane.node()
    const before = filesStored()
    const upload = beginUpload(node.baseUrl, tenant, "endless.bin")
    await upload.send(randomBytes(3 * MiB))
    await sleep(300)
    const exit = ended(node.child)
    const asked = Date.now()
    node.child.kill("SIGTERM")
    await expect(upload.answer).rejects.toThrow()
    const { at, code } = await exit
    expect(code).toBe(0)
    expect(at - asked).toBeGreaterThan(1900)
    expect(at - asked).toBeLessThan(8500)

    await plane.start()
    const until = Date.now() + 15_000
    for (;;) {
      const { body } = await call(`${plane.node().baseUrl}/v1/admin/projects/${tenant.project}`, plane.adminKey)
      const { body: page } = await call(`${plane.node().baseUrl}${list()}?limit=100`, tenant.key)
      const state = {
        reserved: body.reserved_bytes,
        files: filesStored(),
        listed: page.items.some((item: { name: string }) => item.name === "endless.bin"),
      }
      if (state.reserved === 0 && !state.listed && state.files === before) break
      if (Date.now() > until) expect(state).toEqual({ reserved: 0, files: before, listed: false })
      await sleep(200)
    }
    await plane.node().stop()
  })

  it("ends at once at a second signal", async () => {
    for (const [second, code] of [
      ["SIGTERM", 143],
      ["SIGINT", 130],
    ] as const) {
      await plane.start({ DRAIN_DELAY_SECONDS: "10" })
      const node = plane.node()
      const exit = ended(node.child)
      node.child.kill("SIGTERM")
      await sleep(700)
      expect((await get("/readyz")).status).toBe(503)
      const asked = Date.now()
      node.child.kill(second)
      const end = await exit
      expect(end).toMatchObject({ code, signal: null })
      expect(end.at - asked).toBeLessThan(500)
    }
  })

  it("takes one Ctrl-C that arrives twice for one", async () => {
    await plane.start({ DRAIN_DELAY_SECONDS: "1" })
    const node = plane.node()
    const exit = ended(node.child)
    node.child.kill("SIGINT")
    await sleep(30)
    node.child.kill("SIGINT")
    expect(await exit).toMatchObject({ code: 0, signal: null })
  })
})
