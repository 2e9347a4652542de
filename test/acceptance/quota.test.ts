import { beforeEach, describe, expect, it } from "vitest"
import { field, filePart, inChunks, inTwoHalves, multipart } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { head, RawSocket } from "./support/socket.ts"
import { api, expectRefusal, expectStatus, sleep, until } from "./support/wire.ts"
import type { Answer } from "./support/wire.ts"
import { target } from "./target.ts"

const KiB = 1024
const MiB = 1024 * KiB

const bodyOf = (bytes: number, name = "quota.bin") => multipart([field("name", name), filePart(Buffer.alloc(bytes, 7))])

/** The refusal of a full project, its details consistent with themselves. */
const expectFull = (answer: Answer, limit: number, used: number) => {
  const { details } = expectRefusal(answer, 413, "quota_exceeded")
  expect(Object.keys(details).toSorted()).toEqual(["limit", "requested", "reserved", "used"])
  expect(details).toMatchObject({ limit, used })
  expect(details.used + details.reserved + details.requested).toBeGreaterThan(limit)
  return details
}

describe("the quota call", () => {
  it("answers exactly the contract's figures, by all of its paths", async () => {
    const scene = await Scene.open(10 * MiB)
    await scene.publish("12345")
    const paths = [
      `${scene.path}/quota`,
      `/v1/projects/${scene.handle}/settings/artifact-storage/quota`,
      "/v1/artifacts/quota",
      "/v1/settings/artifact-storage/quota",
    ]
    for (const path of paths) {
      const { json } = expectStatus(await api(scene.reader.key, "GET", path), 200)
      expect(json, path).toEqual({
        used_bytes: 5,
        limit_bytes: 10 * MiB,
        artifact_count: 1,
        pending_count: 0,
        generated_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/),
      })
      expect(Math.abs(Date.parse(json.generated_at) - Date.now())).toBeLessThan(60_000)
    }
  })

  it("counts project-wide, also what the caller may not see", async () => {
    const scene = await Scene.open()
    const hidden = await scene.claim({ visibility: "private" })
    await scene.publish("hidden", { lease: hidden.token })
    expect(await scene.list("", scene.reader.key)).toEqual([])
    const { json } = expectStatus(await scene.get("/quota", scene.reader.key), 200)
    expect(json).toMatchObject({ used_bytes: 6, artifact_count: 1 })
  })

  it("counts an upload on its way as pending, not as used", async () => {
    const scene = await Scene.open()
    const body = bodyOf(400_000)
    const { chunks, reached, resume } = inTwoHalves(body.bytes)
    const answer = scene.post(body, { chunked: chunks })
    await reached
    const open = await until(
      () => scene.quota(),
      ({ pending_count }) => pending_count === 1,
    )
    expect(open).toMatchObject({ used_bytes: 0, artifact_count: 0 })
    expect((await scene.books()).reserved).toBeGreaterThan(0)
    resume()
    expectStatus(await answer, 201)
    expect(await scene.quota()).toMatchObject({ used_bytes: 400_000, artifact_count: 1, pending_count: 0 })
    expect(await scene.books()).toMatchObject({ used: 400_000, reserved: 0 })
  })
})

describe("the quota", () => {
  it("admits of 20 uploads of unknown size only what fits, and is never oversold on the way", async () => {
    const scene = await Scene.open(5 * MiB)
    const body = bodyOf(MiB)
    const samples: Array<{ readonly limit: number; readonly used: number; readonly reserved: number }> = []
    let uploading = true
    const sampling = (async () => {
      while (uploading) {
        samples.push(await scene.books())
        await sleep(5)
      }
    })()
    const uploads = Array.from({ length: 20 }, () => scene.post(body, { chunked: inChunks(body.bytes, 64 * KiB, 150) }))
    const answers = await Promise.all(uploads)
    uploading = false
    await sampling
    const admitted = answers.filter(({ status }) => status === 201).length
    expect(admitted).toBeLessThanOrEqual(5)
    for (const answer of answers) if (answer.status !== 201) expectRefusal(answer, 413, "quota_exceeded")
    expect(samples.length).toBeGreaterThan(5)
    for (const { limit, reserved, used } of samples) expect(used + reserved).toBeLessThanOrEqual(limit)
    expect(await scene.books()).toEqual({ limit: 5 * MiB, used: admitted * MiB, reserved: 0 })
    for (let more = admitted; more < 5; more++) expectStatus(await scene.post(body, { chunked: true }), 201)
    expectFull(await scene.post(body, { chunked: true }), 5 * MiB, 5 * MiB)
    expect(await scene.books()).toEqual({ limit: 5 * MiB, used: 5 * MiB, reserved: 0 })
  }, 60_000)

  it("admits of 20 small uploads at once only what fits", async () => {
    const scene = await Scene.open(5_000)
    const answers = await Promise.all(Array.from({ length: 20 }, () => scene.post(bodyOf(1_000), { chunked: true })))
    const admitted = answers.filter(({ status }) => status === 201).length
    expect(admitted).toBeLessThanOrEqual(5)
    for (const answer of answers) if (answer.status !== 201) expectRefusal(answer, 413, "quota_exceeded")
    expect(await scene.books()).toEqual({ limit: 5_000, used: admitted * 1_000, reserved: 0 })
  })

  describe("with a file in it", () => {
    let scene: Scene
    let first: { readonly id: string }
    beforeEach(async () => {
      scene = await Scene.open(MiB)
      first = await scene.publish(Buffer.alloc(600_000))
    })
    const nothingMore = async () => {
      expect(await scene.list()).toHaveLength(1)
      expect(await scene.books()).toEqual({ limit: MiB, used: 600_000, reserved: 0 })
    }

    it("refuses a stated size that does not fit, with limit, used, reserved and requested", async () => {
      const parts = [field("name", "stated.bin"), field("size_bytes", "700000"), filePart(Buffer.alloc(700_000))]
      expectFull(await scene.postParts(parts), MiB, 600_000)
      const answer = await scene.postParts(parts, { chunked: true })
      expect(expectFull(answer, MiB, 600_000).requested).toBe(700_000)
      await nothingMore()
    })

    it("refuses by the stated size before the bytes come", async () => {
      const socket = await RawSocket.open()
      const type = "multipart/form-data; boundary=b"
      socket.write(head(scene.path, { ...scene.headers(), "Content-Type": type, "Transfer-Encoding": "chunked" }))
      const opening =
        '--b\r\nContent-Disposition: form-data; name="size_bytes"\r\n\r\n700000\r\n' +
        '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
      socket.write(`${opening.length.toString(16)}\r\n${opening}\r\n`)
      expectFull(await socket.answer(1_500), MiB, 600_000)
      socket.close()
      await nothingMore()
    })

    it("refuses a Content-Length that does not fit before the body", async () => {
      const socket = await RawSocket.open()
      const headers = { "Content-Type": "multipart/form-data; boundary=b", "Content-Length": String(2 * MiB) }
      socket.write(head(scene.path, { ...scene.headers(), ...headers, Expect: "100-continue" }))
      expectFull(await socket.answer(), MiB, 600_000)
      socket.close()
      await nothingMore()
    })

    it("takes a file that fills it to the last byte, and not one byte more", async () => {
      expectFull(await scene.post(bodyOf(MiB - 600_000 + 1), { chunked: true }), MiB, 600_000)
      expectRefusal(await scene.post(bodyOf(MiB - 600_000 + 1)), 413, "quota_exceeded")
      await nothingMore()
      expectStatus(await scene.post(bodyOf(MiB - 600_000)), 201)
      expect(await scene.books()).toEqual({ limit: MiB, used: MiB, reserved: 0 })
      expectStatus(await scene.post(bodyOf(0)), 201)
    })

    it("ends an upload of unknown size with 413 the moment there is no room, and gives everything back", async () => {
      const socket = await RawSocket.open()
      const body = bodyOf(700_000).bytes.subarray(0, 690_000)
      const type = `multipart/form-data; boundary=${body.subarray(2, body.indexOf("\r\n")).toString("latin1")}`
      socket.write(head(scene.path, { ...scene.headers(), "Content-Type": type, "Transfer-Encoding": "chunked" }))
      socket.write(Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n")]))
      expectFull(await socket.answer(1_500), MiB, 600_000)
      socket.close()
      await nothingMore()
    })

    it("has room again at once after a delete", async () => {
      expectRefusal(await scene.post(bodyOf(700_000)), 413, "quota_exceeded")
      expectStatus(await scene.remove(first.id), 204)
      expect(await scene.books()).toEqual({ limit: MiB, used: 0, reserved: 0 })
      expectStatus(await scene.post(bodyOf(700_000)), 201)
    })

    it("is freed once by two deletes at once", async () => {
      const other = await scene.publish("12345")
      const answers = await Promise.all([scene.remove(other.id), scene.remove(other.id)])
      for (const { status } of answers) expect([204, 503]).toContain(status)
      expect(await scene.books()).toEqual({ limit: MiB, used: 600_000, reserved: 0 })
    })

    it("has a raised limit at once", async () => {
      expectRefusal(await scene.post(bodyOf(700_000)), 413, "quota_exceeded")
      await scene.setQuota(2 * MiB)
      expect((await scene.books()).limit).toBe(2 * MiB)
      expectStatus(await scene.post(bodyOf(700_000)), 201)
    })

    it("has a lowered limit at once, even below what is used, and keeps what is there", async () => {
      await scene.setQuota(100_000)
      expect(await scene.books()).toEqual({ limit: 100_000, used: 600_000, reserved: 0 })
      expectFull(await scene.post(bodyOf(10)), 100_000, 600_000)
      expectFull(await scene.post(bodyOf(10), { chunked: true }), 100_000, 600_000)
      expectStatus(await scene.get(`/${first.id}/content`), 200)
      expect(await scene.quota()).toMatchObject({ used_bytes: 600_000, limit_bytes: 100_000 })
    })

    it("refuses an upload that the limit in force at its commit does not hold", async () => {
      const body = bodyOf(100_000)
      const { chunks, reached, resume } = inTwoHalves(body.bytes)
      const answer = scene.post(body, { chunked: chunks })
      await reached
      await until(
        () => scene.quota(),
        ({ pending_count }) => pending_count === 1,
      )
      await scene.setQuota(650_000)
      resume()
      expectFull(await answer, 650_000, 600_000)
      expect(await scene.books()).toEqual({ limit: 650_000, used: 600_000, reserved: 0 })
    })
  })

  it("of 0 bytes takes empty files without metadata only", async () => {
    const scene = await Scene.open(0)
    expectFull(await scene.post(bodyOf(1)), 0, 0)
    const metadata = field("metadata", JSON.stringify({ a: "x".repeat(60_000) }))
    const name = field("name", "empty.bin")
    for (const parts of [
      [name, metadata, filePart("")],
      [name, filePart(""), metadata],
    ])
      for (const chunked of [true, false])
        expect(expectFull(await scene.postParts(parts, { chunked }), 0, 0).requested).toBe(60_008)
    await scene.expectUntouched()
    expectStatus(await scene.post(bodyOf(0)), 201)
    expectStatus(await scene.postParts([name, field("metadata", "{}"), filePart("")]), 201)
  })

  it("is charged for metadata as it is kept, until the artifact is deleted", async () => {
    const scene = await Scene.open()
    const parts = [field("name", "a.bin"), filePart("12345"), field("metadata", '{ "n" : 1e20, "u": "\\u00fc" }')]
    const made = expectStatus(await scene.postParts(parts), 201).json
    const used = 5 + Buffer.byteLength('{"n":100000000000000000000,"u":"ü"}')
    expect(await scene.books()).toMatchObject({ used, reserved: 0 })
    expect(await scene.quota()).toMatchObject({ used_bytes: used, artifact_count: 1 })
    expectStatus(await scene.remove(made.id), 204)
    expect(await scene.books()).toMatchObject({ used: 0, reserved: 0 })
    const tombstone = expectStatus(await scene.get(`/${made.id}?include=deleted`), 200).json
    expect(tombstone).toMatchObject({ id: made.id, size: 5, metadata: {} })
  })

  it("refuses metadata that the file left no room for, wherever it stands", async () => {
    const scene = await Scene.open(1000)
    const metadata = field("metadata", JSON.stringify({ a: "x".repeat(200) }))
    const [name, bytes] = [field("name", "a.bin"), filePart(Buffer.alloc(800))]
    for (const parts of [
      [metadata, name, bytes],
      [name, bytes, metadata],
    ])
      expectFull(await scene.postParts(parts, { chunked: true }), 1000, 0)
    await scene.expectUntouched()
    expectStatus(await scene.postParts([name, bytes]), 201)
  })

  it("is each project's own", async () => {
    const full = await Scene.open(10)
    expectRefusal(await full.post(bodyOf(11)), 413, "quota_exceeded")
    const other = await Scene.open(20)
    expectStatus(await other.post(bodyOf(11)), 201)
    await full.expectUntouched()
  })

  it.each([-1, 1.5, "many", null, 1e300])("cannot be set to %j", async (quota_bytes) => {
    const scene = await Scene.open(10)
    const path = `/v1/admin/projects/${scene.handle}`
    expectRefusal(await api(target.adminKey, "PUT", path, { quota_bytes }), 400, "bad_request")
    expect((await scene.books()).limit).toBe(10)
  })
})

describe("a file over MAX_ARTIFACT_BYTES", () => {
  const max = target.maxArtifactBytes
  const roomy = () => Scene.open(max * 2)

  it("is refused by its Content-Length before the body", async () => {
    const scene = await roomy()
    const socket = await RawSocket.open()
    const headers = { "Content-Type": "multipart/form-data; boundary=b", "Content-Length": String(max + MiB) }
    socket.write(head(scene.path, { ...scene.headers(), ...headers, Expect: "100-continue" }))
    expectRefusal(await socket.answer(), 413, "payload_too_large")
    socket.close()
    await scene.expectUntouched()
  })

  it("is refused by its stated size before the bytes come", async () => {
    const scene = await roomy()
    const parts = [field("name", "large.bin"), field("size_bytes", String(max + 1)), filePart("x")]
    expectRefusal(await scene.postParts(parts), 413, "payload_too_large")
    await scene.expectUntouched()
  })

  const affordable = it.runIf(max <= 64 * MiB)

  affordable(
    "is refused by its bytes when nothing is known before",
    async () => {
      const scene = await roomy()
      const body = bodyOf(max + 1)
      expectRefusal(await scene.post(body, { chunked: inChunks(body.bytes, MiB) }), 413, "payload_too_large")
      await scene.expectUntouched()
    },
    60_000,
  )

  affordable(
    "is refused by its bytes when only the body's length is known",
    async () => {
      const scene = await roomy()
      expectRefusal(await scene.post(bodyOf(max + 1)), 413, "payload_too_large")
      await scene.expectUntouched()
    },
    60_000,
  )

  affordable(
    "is taken when it has exactly that many bytes",
    async () => {
      const scene = await roomy()
      expect(expectStatus(await scene.post(bodyOf(max), { chunked: true }), 201).json.size).toBe(max)
    },
    60_000,
  )
})
