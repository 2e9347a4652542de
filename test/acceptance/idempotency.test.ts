import { beforeAll, describe, expect, it } from "vitest"
import { field, filePart, inTwoHalves, multipart } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { expectRefusal, expectStatus, unique, until } from "./support/wire.ts"

describe("idempotency", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })
  const body = (name = "a.bin", content = "bytes") => multipart([field("name", name), filePart(content)])

  it("answers a replay with 200 and the first artifact", async () => {
    const idempotencyKey = unique("key")
    const first = expectStatus(await scene.post(body(), { idempotencyKey }), 201).json
    expect(expectStatus(await scene.post(body(), { idempotencyKey }), 200).json).toEqual(first)
  })

  it("refuses another name or other bytes with 409 idempotency_key_conflict", async () => {
    const idempotencyKey = unique("key")
    expectStatus(await scene.post(body(), { idempotencyKey }), 201)
    expectRefusal(await scene.post(body("b.bin"), { idempotencyKey }), 409, "idempotency_key_conflict")
    expectRefusal(await scene.post(body("a.bin", "bytez"), { idempotencyKey }), 409, "idempotency_key_conflict")
    expectRefusal(
      await scene.post(body("a.bin", "bytes and more"), { idempotencyKey }),
      409,
      "idempotency_key_conflict",
    )
  })

  /** An upload of which half has come. */
  const half = async (scene: Scene, idempotencyKey: string) => {
    const whole = body()
    const { chunks, reached, resume } = inTwoHalves(whole.bytes)
    const answer = scene.post(whole, { idempotencyKey, chunked: chunks })
    await reached
    await until(
      () => scene.quota(),
      ({ pending_count }) => pending_count === 1,
    )
    return { answer, resume }
  }

  it("lets a retry take over while the first is on its way, whose sender gets 409 idempotency_superseded", async () => {
    const scene = await Scene.open()
    const idempotencyKey = unique("key")
    const first = await half(scene, idempotencyKey)
    const second = expectStatus(await scene.post(body(), { idempotencyKey }), 201).json
    first.resume()
    const superseded = await first.answer
    expectRefusal(superseded, 409, "idempotency_superseded")
    expect(superseded.headers["retry-after"]).toBeUndefined()
    expect(expectStatus(await scene.post(body(), { idempotencyKey }), 200).json).toEqual(second)
    expect(await scene.list()).toEqual([second])
    expect((await scene.quota()).pending_count).toBe(0)
  })

  it("lets nobody take over with a dead token: 409 idempotency_in_progress with Retry-After", async () => {
    const scene = await Scene.open()
    const idempotencyKey = unique("key")
    const first = await half(scene, idempotencyKey)
    expectStatus(await scene.release(scene.held), 204)
    const second = await scene.post(body(), { idempotencyKey })
    expectRefusal(second, 409, "idempotency_in_progress")
    expect(second.headers["retry-after"]).toBe("1")
    first.resume()
    expectRefusal(await first.answer, 409, "lease_lost")
  })

  it("answers for a key in a full project as in any other, and holds no room for it", async () => {
    const scene = await Scene.open(100_000)
    const idempotencyKey = unique("key")
    const whole = body("a.bin", "x".repeat(100_000))
    const first = expectStatus(await scene.post(whole, { idempotencyKey }), 201).json
    const full = { limit: 100_000, used: 100_000, reserved: 0 }
    for (let turn = 0; turn < 5; turn++) {
      expect(expectStatus(await scene.post(whole, { idempotencyKey }), 200).json).toEqual(first)
      expect(await scene.books()).toEqual(full)
    }
    const other = body("b.bin", "x".repeat(100_000))
    expectRefusal(await scene.post(other, { idempotencyKey }), 409, "idempotency_key_conflict")
    expect(await scene.books()).toEqual(full)
  })

  it("frees the key of a failed upload", async () => {
    const idempotencyKey = unique("key")
    const wrong = multipart([field("name", "a.bin"), field("size_bytes", "3"), filePart("bytes")])
    expectRefusal(await scene.post(wrong, { idempotencyKey }), 400, "size_mismatch")
    expectStatus(await scene.post(body(), { idempotencyKey }), 201)
  })

  it("scopes a key to its job and attempt", async () => {
    const idempotencyKey = unique("key")
    const first = expectStatus(await scene.post(body(), { idempotencyKey }), 201).json
    const other = await scene.claim()
    const second = expectStatus(await scene.post(body(), { idempotencyKey, lease: other.token }), 201).json
    expect(second.id).not.toBe(first.id)
  })

  it("replays for the claim's own token after the claim has ended, and publishes nothing new under it", async () => {
    const idempotencyKey = unique("key")
    const held = await scene.claim()
    const first = expectStatus(await scene.post(body(), { idempotencyKey, lease: held.token }), 201).json
    expectStatus(await scene.release(held), 204)
    const again = expectStatus(await scene.post(body(), { idempotencyKey, lease: held.token }), 200).json
    expect(again.id).toBe(first.id)
    expectRefusal(await scene.post(body(), { idempotencyKey: unique("key"), lease: held.token }), 409, "lease_lost")
  })

  it("replays a deleted artifact as 200 with deleted_at", async () => {
    const idempotencyKey = unique("key")
    const first = expectStatus(await scene.post(body(), { idempotencyKey }), 201).json
    expectStatus(await scene.remove(first.id), 204)
    expect(expectStatus(await scene.post(body(), { idempotencyKey }), 200).json.deleted_at).toBeTypeOf("string")
  })

  it("makes one artifact of many replays at once", async () => {
    const idempotencyKey = unique("key")
    const answers = await Promise.all(Array.from({ length: 8 }, () => scene.post(body(), { idempotencyKey })))
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    for (const { status } of answers) expect([200, 201, 409]).toContain(status)
  })

  it("refuses a key of more than 255 characters with 400", async () => {
    expectRefusal(await scene.post(body(), { idempotencyKey: "k".repeat(256) }), 400, "bad_request")
  })
})
