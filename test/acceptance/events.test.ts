import { beforeAll, describe, expect, it } from "vitest"
import { eventsOf, retainedEvents, sequenceOf } from "./support/events.ts"
import { field, filePart, inTwoHalves, multipart, sha256 } from "./support/multipart.ts"
import { streamEntries } from "./support/redis.ts"
import { Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, until } from "./support/wire.ts"
import type { Wire } from "./support/wire.ts"
import { target } from "./target.ts"

const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/)

/** All events of the project, known to be all because one of a later artifact has come. */
const settledEvents = async (scene: Scene, count: number): Promise<ReadonlyArray<Wire>> => {
  const last = await scene.publish("last", { name: "last" })
  const events = await until(
    () => eventsOf(scene.handle, count + 1),
    (found) => found.some((event) => event.source_id === last.id),
  )
  expect(events.at(-1)?.source_id).toBe(last.id)
  return events.slice(0, -1)
}

describe("source events", () => {
  it("tell of a created artifact once, in exactly the contract's shape", async () => {
    const scene = await Scene.open()
    const artifact = await scene.publish("# Report", { name: "report.md", mime: "text/markdown", metadata: { a: 1 } })
    const events = await settledEvents(scene, 1)
    expect(events).toEqual([
      {
        event_type: "artifact.created",
        source_kind: "artifact",
        source_id: artifact.id,
        event: {
          type: "artifact",
          id: artifact.id,
          name: "report.md",
          mime: "text/markdown",
          size: 8,
          sha256: sha256("# Report"),
        },
        meta: {
          id: expect.stringMatching(/^sevt_[A-Za-z0-9]+$/),
          event_type: "artifact.created",
          source_kind: "artifact",
          source_id: artifact.id,
          project: scene.handle,
          artifact_id: artifact.id,
          loop_run_id: "run:1",
          step_id: "step:1",
          job_id: scene.held.jobId,
          attempt: 1,
          content_type: "text/markdown",
          visibility: "shared",
          owner: scene.owner,
          occurred_at: time,
          received_at: time,
          sequence: expect.any(Number),
        },
      },
    ])
    expect(events[0].meta.occurred_at).toBe(artifact.created_at)
  })

  it("leave absent values out, never null", async () => {
    const scene = await Scene.open()
    const claim = expectStatus(await scene.putClaim("bare", scene.claimBody()), 201).json
    await scene.publish("x", { lease: claim.lease_token })
    const [event] = await settledEvents(scene, 1)
    expect(event.meta).not.toHaveProperty("loop_run_id")
    expect(event.meta).not.toHaveProperty("step_id")
    expect(event.meta.job_id).toBe("bare")
    expect(Object.values(event.meta)).not.toContain(null)
  })

  it("tell of a deleted artifact once, after it was created, with the same reference", async () => {
    const scene = await Scene.open()
    const artifact = await scene.publish("gone soon", { name: "gone.txt", mime: "text/plain" })
    const answers = await Promise.all([scene.remove(artifact.id), scene.remove(artifact.id)])
    for (const { status } of answers) expect([204, 503]).toContain(status)
    await scene.remove(artifact.id)
    const [created, deleted, ...more] = await settledEvents(scene, 2)
    expect(more).toEqual([])
    const sequence = sequenceOf(deleted)
    expect(sequence).toBeGreaterThan(sequenceOf(created))
    expect(deleted).toEqual({
      ...created,
      event_type: "artifact.deleted",
      meta: {
        ...created.meta,
        id: expect.stringMatching(/^sevt_/),
        event_type: "artifact.deleted",
        occurred_at: time,
        received_at: time,
        sequence,
      },
    })
    expect(deleted.meta.id).not.toBe(created.meta.id)
    const { json } = expectStatus(await scene.get(`/${artifact.id}?include=deleted`), 200)
    expect(deleted.meta.occurred_at).toBe(json.deleted_at)
  })

  it("are not repeated by a replay", async () => {
    const scene = await Scene.open()
    const body = multipart([field("name", "again.bin"), filePart("again")])
    for (const status of [201, 200, 200]) expectStatus(await scene.post(body, { idempotencyKey: "again" }), status)
    expect(await settledEvents(scene, 1)).toHaveLength(1)
  })

  it("come of no failed upload", async () => {
    const scene = await Scene.open(1_000)
    const named = field("name", "failed.bin")
    const large = multipart([named, filePart(Buffer.alloc(400))])
    expectRefusal(await scene.postParts([named, field("size_bytes", "9"), filePart("x")]), 400, "size_mismatch")
    expectRefusal(await scene.postParts([named, field("sha256", sha256("y")), filePart("x")]), 400, "digest_mismatch")
    expectRefusal(await scene.postParts([filePart("x"), named, field("run_id", "x")]), 400, "lineage_not_allowed")
    expectRefusal(await scene.postParts([named, filePart(Buffer.alloc(2_000))]), 413, "quota_exceeded")
    const lost = await scene.claim()
    const { chunks, reached, resume } = inTwoHalves(large.bytes)
    const answer = scene.post(large, { chunked: chunks, lease: lost.token })
    await reached
    await until(
      () => scene.quota(),
      ({ pending_count }) => pending_count === 1,
    )
    expectStatus(await scene.release(lost), 204)
    resume()
    expectRefusal(await answer, 409, "lease_lost")
    expect(await settledEvents(scene, 0)).toEqual([])
  })

  it("come in the order of requests that follow each other", async () => {
    const scene = await Scene.open()
    const ids: Array<string> = []
    for (let index = 0; index < 5; index++) ids.push((await scene.publish(`${index}`)).id)
    expectStatus(await scene.remove(ids[0] ?? ""), 204)
    const events = await settledEvents(scene, 6)
    expect(events.map(({ source_id }) => source_id)).toEqual([...ids, ids[0]])
  })

  it("come one each of many uploads at once", async () => {
    const scene = await Scene.open()
    const made = await Promise.all(Array.from({ length: 15 }, (_, index) => scene.publish(`${index}`)))
    const events = await settledEvents(scene, 15)
    expect(events.map(({ source_id }) => source_id).toSorted()).toEqual(made.map(({ id }) => id).toSorted())
  })
})

describe("GET /v1/admin/events", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
    for (let index = 0; index < 5; index++) await scene.publish(`${index}`)
    await eventsOf(scene.handle, 5)
  })
  const page = (query: string, key = target.adminKey) => api(key, "GET", `/v1/admin/events${query}`)

  it("gives the events of all projects by a dense sequence, each once", async () => {
    const events = await retainedEvents()
    const first = sequenceOf(events[0])
    expect(events.map(sequenceOf)).toEqual(events.map((_, index) => first + index))
    expect(new Set(events.map(({ meta }) => meta.id)).size).toBe(events.length)
    expect(new Set(events.map(({ meta }) => meta.project)).size).toBeGreaterThan(1)
  })

  it("pages by after and limit", async () => {
    const events = await eventsOf(scene.handle, 5)
    const from = sequenceOf(events[0])
    const first = expectStatus(await page(`?after=${from - 1}&limit=2`), 200).json
    expect(first.items.map(sequenceOf)).toEqual([from, from + 1])
    expect(first.has_more).toBe(true)
    const next = expectStatus(await page(`?after=${from + 1}&limit=1`), 200).json
    expect(next.items.map(sequenceOf)).toEqual([from + 2])
  })

  it("is empty after the last event", async () => {
    const last = sequenceOf((await retainedEvents()).at(-1))
    const { json } = expectStatus(await page(`?after=${last + 1_000_000}`), 200)
    expect(json).toMatchObject({ items: [], has_more: false })
  })

  it.each(["?after=-1", "?after=x", "?after=1.5", "?limit=0", "?limit=x", "?limit=1000000"])(
    "refuses %s",
    async (query) => {
      expectRefusal(await page(query), 400, "bad_request")
    },
  )

  it("needs the admin key", async () => {
    expectRefusal(await page("", scene.editor.key), 403, "permission_denied")
    expectRefusal(await api(undefined, "GET", "/v1/admin/events"), 401, "unauthorized")
  })
})

describe.runIf(target.redisUrl !== undefined)("the Redis stream", () => {
  it("holds each retained event once, in order, as <sequence>-0 with id, type, project and payload", async () => {
    const scene = await Scene.open()
    const made = await Promise.all(Array.from({ length: 8 }, (_, index) => scene.publish(`${index}`)))
    expectStatus(await scene.remove(made[0].id), 204)
    const events = await eventsOf(scene.handle, 9)
    const last = sequenceOf(events.at(-1))
    const entries = await until(
      () => streamEntries(target.redisUrl ?? "", target.eventStreamKey),
      (found) => Number.parseInt(found.at(-1)?.id ?? "0", 10) >= last,
    )
    const retained = (await retainedEvents()).filter((event) => sequenceOf(event) <= last)
    const published = entries.filter(({ id }) => Number.parseInt(id, 10) <= last)
    expect(published.map(({ id }) => id)).toEqual(retained.map((event) => `${sequenceOf(event)}-0`))
    for (const [index, { fields }] of published.entries()) {
      expect(Object.keys(fields)).toEqual(["id", "type", "project", "payload"])
      const { payload, ...rest } = fields
      const event = retained[index]
      expect(JSON.parse(payload ?? "")).toEqual(event)
      expect(rest).toEqual({ id: event.meta.id, type: event.event_type, project: event.meta.project })
    }
  })
})
