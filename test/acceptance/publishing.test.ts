import { beforeAll, describe, expect, it } from "vitest"
import { field, filePart, inChunks, inTwoHalves, multipart, sha256 } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { head, RawSocket } from "./support/socket.ts"
import { expectRefusal, expectStatus } from "./support/wire.ts"
import { target } from "./target.ts"

describe("publishing", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })

  it("answers 201 with the artifact, its lineage and ownership from the claim", async () => {
    const artifact = await scene.publish("# Report", { name: "report.md", mime: "text/markdown", metadata: { a: [1] } })
    expect(artifact).toMatchObject({
      type: "artifact",
      name: "report.md",
      mime: "text/markdown",
      size: 8,
      sha256: sha256("# Report"),
      mime_type: "text/markdown",
      size_bytes: 8,
      visibility: "shared",
      owner: scene.owner,
      run_id: "run:1",
      step_id: "step:1",
      job_id: scene.held.jobId,
      worker_session_id: "session-1",
      attempt: 1,
      metadata: { a: [1] },
    })
    expect(artifact.id).toMatch(/^art_[A-Za-z0-9]+$/)
    expect(typeof artifact.created_by).toBe("string")
    expect(Math.abs(Date.parse(artifact.created_at) - Date.now())).toBeLessThan(60_000)
    expect(artifact).not.toHaveProperty("deleted_at")
    expect(artifact).not.toHaveProperty("deleted_by")
  })

  it("leaves absent values out, never null", async () => {
    const held = await scene.claim()
    const { step_id: _step, run_id: _run, ...body } = held.body
    const claim = await scene.putClaim("job-bare", { ...body, job_id: undefined })
    const artifact = await scene.publish("x", { lease: expectStatus(claim, 201).json.lease_token })
    expect(artifact).not.toHaveProperty("run_id")
    expect(artifact).not.toHaveProperty("step_id")
    expect(Object.values(artifact)).not.toContain(null)
  })

  it("takes the parts in any order", async () => {
    const content = "a file before its fields"
    const fields = [
      field("name", "order.txt"),
      field("size_bytes", String(content.length)),
      field("sha256", sha256(content)),
      field("mime", "text/plain"),
      field("metadata", "{}"),
    ]
    for (const at of [0, 2, fields.length]) {
      const parts = fields.toSpliced(at, 0, filePart(content))
      const artifact = expectStatus(await scene.postParts(parts), 201).json
      expect(artifact).toMatchObject({ name: "order.txt", mime: "text/plain", sha256: sha256(content) })
    }
  })

  it("takes a chunked body of unknown size", async () => {
    const content = Buffer.alloc(3_000_000, "chunk")
    const artifact = await scene.publish(content, { chunked: true })
    expect(artifact).toMatchObject({ size: content.length, sha256: sha256(content) })
    const read = expectStatus(await scene.get(`/${artifact.id}/content`), 200)
    expect(sha256(read.bytes)).toBe(sha256(content))
  })

  it("takes a body cut at every possible place", async () => {
    const body = multipart([filePart("a\r\n--b\r\n"), field("name", "cut.bin")])
    for (const size of [1, 2, 3, 17]) {
      const artifact = expectStatus(await scene.post(body, { chunked: inChunks(body.bytes, size) }), 201).json
      expect(artifact.sha256).toBe(sha256("a\r\n--b\r\n"))
    }
  })

  it("takes a file of 0 bytes", async () => {
    const artifact = await scene.publish("")
    expect(artifact).toMatchObject({ size: 0, sha256: sha256("") })
    expect(expectStatus(await scene.get(`/${artifact.id}/content`), 200).bytes.length).toBe(0)
  })

  it("shows nothing of an artifact before it is ready", async () => {
    const body = multipart([field("name", "unready.bin"), filePart(Buffer.alloc(400_000))])
    const halves = inTwoHalves(body.bytes)
    const answer = scene.post(body, { chunked: halves.chunks })
    await halves.reached
    expect(await scene.list("?name_prefix=unready")).toEqual([])
    halves.resume()
    expectStatus(await answer, 201)
    expect(await scene.list("?name_prefix=unready")).toHaveLength(1)
  })

  it("refuses from the headers before the body when 100-continue is expected", async () => {
    const { Authorization } = scene.headers() as { Authorization: string }
    const socket = await RawSocket.open()
    const type = "multipart/form-data; boundary=b"
    socket.write(
      head(scene.path, { Authorization, "Content-Type": type, "Content-Length": "1000000", Expect: "100-continue" }),
    )
    expectRefusal(await socket.answer(), 403, "lease_required")
    socket.close()
  })

  it("answers 100 Continue when nothing can be refused from the headers", async () => {
    const body = multipart([field("name", "continue.bin"), filePart("bytes")])
    const socket = await RawSocket.open()
    const length = String(body.bytes.length)
    socket.write(
      head(scene.path, {
        ...scene.headers(),
        "Content-Type": body.contentType,
        "Content-Length": length,
        Expect: "100-continue",
      }),
    )
    expect((await socket.answer()).status).toBe(100)
    socket.write(body.bytes)
    expectStatus(await socket.answer(), 201)
    socket.close()
  })

  it("answers a later refusal at once, before the rest of the body", async () => {
    const socket = await RawSocket.open()
    const type = "multipart/form-data; boundary=b"
    socket.write(
      head(scene.path, {
        ...scene.headers(),
        "Content-Type": type,
        "Content-Length": String(target.maxArtifactBytes),
      }) + '--b\r\nContent-Disposition: form-data; name="colour"\r\n\r\nred\r\n--b\r\n',
    )
    expectRefusal(await socket.answer(1_500), 400, "unknown_field")
    socket.close()
  })

  it(
    "ends uploads that make no progress with 400",
    async () => {
      const body = multipart([field("name", "stalled.bin"), filePart(Buffer.alloc(100_000))])
      const socket = await RawSocket.open()
      const length = String(body.bytes.length)
      socket.write(head(scene.path, { ...scene.headers(), "Content-Type": body.contentType, "Content-Length": length }))
      socket.write(body.bytes.subarray(0, 50_000))
      expectRefusal(await socket.answer((target.uploadIdleSeconds + 10) * 1000), 400, "bad_request")
      socket.close()
    },
    (target.uploadIdleSeconds + 20) * 1000,
  )

  it("never ends a slow upload that makes progress", async () => {
    const body = multipart([field("name", "slow.bin"), filePart(Buffer.alloc(6_000))])
    const chunks = inChunks(body.bytes, 1_000, 800)
    expectStatus(await scene.post(body, { chunked: chunks }), 201)
  })

  it("refuses uploads beyond MAX_OPEN_UPLOADS with 503 and Retry-After", async () => {
    const other = await Scene.open()
    const body = multipart([field("name", "open.bin"), filePart(Buffer.alloc(10_000))])
    const length = String(body.bytes.length)
    const sockets: Array<RawSocket> = []
    // Each of two projects may have half of them.
    for (const { path, ...owner } of [scene, other].map((one) => ({ path: one.path, headers: one.headers() })))
      for (let open = 0; open < target.maxOpenUploads / 2; open++) {
        const socket = await RawSocket.open()
        sockets.push(socket)
        const headers = { ...owner.headers, "Content-Type": body.contentType, "Content-Length": length }
        socket.write(Buffer.concat([Buffer.from(head(path, headers)), body.bytes.subarray(0, 500)]))
      }
    await new Promise((resolve) => setTimeout(resolve, 700))
    const refusals = [await scene.post(body), await other.post(body)]
    for (const socket of sockets) socket.close()
    for (const refused of refusals) {
      expectRefusal(refused, 503, "service_unavailable")
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0)
    }
  })
})
