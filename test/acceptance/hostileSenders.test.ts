import { describe, expect, it } from "vitest"
import { good, HostileUploads, part, type } from "./support/hostileUploads.ts"
import { field, filePart, inChunks, multipart } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { head } from "./support/socket.ts"
import { expectRefusal, expectStatus, sleep, until } from "./support/wire.ts"
import { target } from "./target.ts"

const KiB = 1024
const uploads = new HostileUploads()

describe("Expect: 100-continue", () => {
  const expecting = (headers: Record<string, string> = {}) =>
    uploads.head({ "Content-Type": type, "Content-Length": String(good.length), Expect: "100-continue", ...headers })

  it.each([
    ["a bad lease", { "X-Mobius-Lease-Token": "lease_bad" }, 403, "lease_invalid"],
    ["a bad key", { Authorization: "Bearer mbx_bad" }, 401, "unauthorized"],
    ["no boundary", { "Content-Type": "multipart/form-data" }, 400, "bad_request"],
    ["too large a body", { "Content-Length": String(target.maxArtifactBytes * 2) }, 413, "payload_too_large"],
    ["a bad Idempotency-Key", { "Idempotency-Key": "k".repeat(256) }, 400, "bad_request"],
  ])("is answered by the refusal, not by a continue: %s", async (_, headers, status, code) => {
    const answer = await uploads.answerTo(expecting(headers))
    expectRefusal(answer, status, code)
    expect(answer.headers["connection"]).toBe("close")
  })

  it("is answered by a continue, and the body by its refusal", async () => {
    const socket = await uploads.connect()
    const body = part("run_id", "x") + good
    socket.write(expecting({ "Content-Length": String(body.length) }))
    expect((await socket.answer()).status).toBe(100)
    socket.write(body)
    expectRefusal(await socket.answer(), 400, "lineage_not_allowed")
  })
})

describe("senders that are slow", () => {
  const idleMillis = target.uploadIdleSeconds * 1000

  it(
    "succeed when they make progress, however long it takes",
    async () => {
      const other = await Scene.open()
      const bytes = Buffer.from(good)
      const socket = await uploads.connect()
      const headers = { ...other.headers(), "Content-Type": type, "Content-Length": String(bytes.length) }
      socket.write(head(other.path, headers))
      for await (const chunk of inChunks(bytes, Math.ceil(bytes.length / 6), idleMillis * 0.4)) socket.write(chunk)
      expectStatus(await socket.answer(), 201)
      expect(await other.list()).toHaveLength(1)
    },
    idleMillis * 3 + 20_000,
  )

  it(
    "are ended when they stall in the file, in a part's headers, or before the first byte",
    async () => {
      const began = Date.now()
      const cuts = [good.indexOf("content") + 3, 20, 0]
      const answers = await Promise.all(
        cuts.map((cut) =>
          uploads.answerTo(
            uploads.head({ "Content-Type": type, "Content-Length": String(good.length) }) + good.slice(0, cut),
            idleMillis + 10_000,
          ),
        ),
      )
      for (const answer of answers) expectRefusal(answer, 400, "bad_request")
      expect(Date.now() - began).toBeGreaterThanOrEqual(idleMillis * 0.9)
    },
    idleMillis + 20_000,
  )
})

describe("more uploads than MAX_OPEN_UPLOADS", () => {
  it("are refused with 503 and Retry-After, and taken again once there is a place", async () => {
    const body = multipart([field("name", "open.bin"), filePart(Buffer.alloc(10 * KiB))])
    // While others want some, a project has half of them at the most.
    const share = Math.floor(target.maxOpenUploads / 2)
    const open = async (scene: Scene) => {
      const headers = {
        ...scene.headers(),
        "Content-Type": body.contentType,
        "Content-Length": String(body.bytes.length),
      }
      const opening = Buffer.concat([Buffer.from(head(scene.path, headers)), body.bytes.subarray(0, 500)])
      const sockets = await Promise.all(Array.from({ length: share }, () => uploads.connect()))
      for (const socket of sockets) socket.write(opening)
      await until(
        () => scene.quota(),
        ({ pending_count }) => pending_count === share,
      )
      return sockets
    }
    const expectFull = async (scene: Scene) => {
      const refused = await scene.post(body)
      expectRefusal(refused, 503, "service_unavailable")
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0)
      expectStatus(await scene.get("/quota"), 200)
    }
    const [first, second] = [await Scene.open(), await Scene.open()]
    const sockets = await open(first)
    expectStatus(await second.post(body), 201)
    sockets.push(...(await open(second)))
    await expectFull(first)
    await expectFull(second)
    for (const socket of sockets) socket.write(body.bytes.subarray(500))
    for (const socket of sockets) expectStatus(await socket.answer(), 201)
    expectStatus(await first.post(body), 201)
    expect(await first.quota()).toMatchObject({ artifact_count: share + 1, pending_count: 0 })
    expect(await second.quota()).toMatchObject({ artifact_count: share + 1, pending_count: 0 })
  })
})

describe("many at once", () => {
  it("of all kinds leave the node alive, and nothing behind", async () => {
    const attempts = Array.from({ length: 30 }, async (_, index) => {
      const socket = await uploads.connect()
      const length = String(good.length + 1_000)
      socket.write(uploads.head({ "Content-Type": type, "Content-Length": length }) + good.slice(0, index * 5))
      await sleep(10 + index * 7)
      socket.close()
    })
    await Promise.all(attempts)
    await until(
      () => uploads.scene.books(),
      ({ reserved }) => reserved === 0,
    )
  })
})
