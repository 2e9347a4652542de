import { randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import { expect } from "vitest"
import { sleep } from "../support/processes.ts"
import { bodyOf, makeTenant, type Plane, publish, type Tenant } from "./plane.ts"

/** How long an answer may take for a dependency that is away, and how long all may take to work again. Milliseconds. */
const answerWithin = 2500
const recoverWithin = 10_000
const readinessWithin = 1000

/**
 * Asks, all the while something is measured, for what needs no dependency: how long that takes at the most is how much
 * slower than itself the machine makes the node. The returned function ends it and tells, in milliseconds.
 */
export const watchSlowness = (plane: Plane): (() => Promise<number>) => {
  let done = false
  let slowest = 0
  const watching = (async () => {
    while (!done) {
      slowest = Math.max(slowest, (await timed(fetch(`${plane.node().baseUrl}/healthz`))).millis)
      await sleep(20)
    }
  })()
  return async () => {
    done = true
    await watching
    return slowest
  }
}

/** The answer came in time, but for what the machine itself took. */
export const answersInTime = async <A>(plane: Plane, request: () => Promise<A>): Promise<A> => {
  const slowness = watchSlowness(plane)
  const began = performance.now()
  const answer = await request()
  const millis = performance.now() - began
  expect(millis).toBeLessThan(answerWithin + (await slowness()))
  return answer
}

export interface Timed {
  readonly status: number
  readonly body: any
  readonly retryAfter: string | null
  readonly millis: number
}

const timed = async (request: Promise<Response>): Promise<Timed> => {
  const began = performance.now()
  const response = await request
  const body = await bodyOf(response)
  return {
    status: response.status,
    body,
    retryAfter: response.headers.get("retry-after"),
    millis: performance.now() - began,
  }
}

/** A project with an artifact to keep and one to delete. */
export interface Scene {
  readonly plane: Plane
  readonly tenant: Tenant
  readonly kept: string
  readonly doomed: string
}

/** Everything callers do, by name. */
const calls = ({ doomed, kept, plane, tenant }: Scene) => {
  const { baseUrl } = plane.node()
  const project = `${baseUrl}/v1/projects/${tenant.project}`
  const bearer = { authorization: `Bearer ${tenant.key}` }
  const ask = (path: string, init: RequestInit = {}) => {
    const headers = { ...bearer, ...(init.headers as Record<string, string>) }
    return timed(fetch(`${project}${path}`, { ...init, headers, signal: AbortSignal.timeout(30_000) }))
  }
  return {
    publish: () => {
      const form = new FormData()
      form.append("name", `files/${randomBytes(6).toString("hex")}`)
      form.append("file", new Blob([randomBytes(20_000)]), "file")
      return ask("/artifacts", { method: "POST", body: form, headers: { "x-mobius-lease-token": tenant.token } })
    },
    list: () => ask("/artifacts?limit=5"),
    find: () => ask(`/artifacts/${kept}`),
    read: () => ask(`/artifacts/${kept}/content`),
    sign: () => ask(`/artifacts/${kept}/signed-url`, { method: "POST" }),
    quota: () => ask("/artifacts/quota"),
    heartbeat: () =>
      ask(`/claims/${tenant.jobId}/heartbeat`, { method: "POST", headers: { "x-mobius-lease-token": tenant.token } }),
    claim: () =>
      ask(`/claims/job-${randomBytes(6).toString("hex")}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${plane.adminKey}`, "content-type": "application/json" },
        body: JSON.stringify({ worker_session_id: "s", attempt: 1, owner: { kind: "agent", id: "worker" } }),
      }),
    remove: () => ask(`/artifacts/${doomed}`, { method: "DELETE" }),
  }
}

export type CallName = keyof ReturnType<typeof calls>
export const callNames: ReadonlyArray<CallName> = [
  "publish",
  "list",
  "find",
  "read",
  "sign",
  "quota",
  "heartbeat",
  "claim",
  "remove",
]

/** Publishes a file to keep and one to delete; they begin like JSON without being it. */
export const makeScene = async (plane: Plane): Promise<Scene> => {
  const tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
  const made = async () => {
    const name = randomBytes(6).toString("hex")
    const bytes = Buffer.concat([Buffer.from("{"), randomBytes(300_000)])
    const { body, status } = await publish(plane.node().baseUrl, tenant, { name, bytes })
    expect(status).toBe(201)
    return body.id as string
  }
  return { plane, tenant, kept: await made(), doomed: await made() }
}

/** What the calls answer while something is away: those named by `refused` with a 503, all others as ever. */
export const expectOutage = async (scene: Scene, refused: ReadonlyArray<CallName>): Promise<Record<string, number>> => {
  const all = calls(scene)
  const slowest: Record<string, number> = {}
  // Twice: with connections that were good a moment ago, and when the node knows.
  for (const round of [1, 2]) {
    const slowness = watchSlowness(scene.plane)
    const answers = await Promise.all(callNames.map(async (name) => ({ name, answer: await all[name]() })))
    const bound = answerWithin + (await slowness())
    for (const { answer, name } of answers) {
      const what = `${name}, round ${round}: ${answer.status} after ${Math.round(answer.millis)} ms`
      slowest[name] = Math.max(slowest[name] ?? 0, Math.round(answer.millis))
      expect(answer.millis, what).toBeLessThan(bound)
      if (refused.includes(name)) {
        expect(answer.status, what).toBe(503)
        expect(answer.body.error.code, what).toBe("service_unavailable")
        expect(Number(answer.retryAfter), what).toBeGreaterThan(0)
      } else expect(answer.status, what).toBeLessThan(300)
    }
  }
  return slowest
}

/** `/readyz` stays 200, and says within a few seconds what is away. */
export const expectDegraded = async (plane: Plane, degraded: ReadonlyArray<string>) => {
  const until = Date.now() + 5000
  for (;;) {
    const slowness = watchSlowness(plane)
    const answer = await timed(fetch(`${plane.node().baseUrl}/readyz`))
    expect(answer.status).toBe(200)
    expect(answer.millis).toBeLessThan(readinessWithin + (await slowness()))
    if (JSON.stringify(answer.body.degraded) === JSON.stringify(degraded)) return
    if (Date.now() > until) expect(answer.body.degraded).toEqual(degraded)
    await sleep(100)
  }
}

const relayed = async (plane: Plane, id: string) => {
  const redis = new Redis(plane.redis.url, { lazyConnect: true })
  try {
    await redis.connect()
    return JSON.stringify(await redis.xrange(plane.streamKey, "-", "+")).includes(id)
  } finally {
    redis.disconnect()
  }
}

/** Everything works again in time, the relay included; returns after how many milliseconds. */
export const expectRecovery = async (scene: Scene) => {
  const { plane } = scene
  const began = Date.now()
  const left = () => began + recoverWithin - Date.now()
  for (;;) {
    const all = calls(scene)
    const answers = await Promise.all(
      (["publish", "find", "read", "sign", "heartbeat", "claim"] as const).map(
        async (name) => [name, await all[name]()] as const,
      ),
    )
    const failed = answers.filter(([, answer]) => answer.status >= 300)
    const made = answers[0]?.[1].body.id as string | undefined
    if (failed.length === 0 && made !== undefined) {
      while (!(await relayed(plane, made))) {
        if (left() < 0) expect.fail("the event of a new artifact is not in the stream")
        await sleep(50)
      }
      await expectDegraded(plane, [])
      expect(left()).toBeGreaterThan(0)
      return Date.now() - began
    }
    if (left() < 0) expect(failed).toEqual([])
    await sleep(50)
  }
}
