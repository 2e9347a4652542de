import { createHash, randomBytes } from "node:crypto"
import { beforeAll, describe, expect, it } from "vitest"
import { sha256 } from "./support/multipart.ts"
import { permissions, Scene } from "./support/scene.ts"
import { RawSocket } from "./support/socket.ts"
import { api, expectRefusal, expectStatus, send, type Wire } from "./support/wire.ts"

const digestOf = (bytes: Uint8Array) => `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`

describe("content", () => {
  const bytes = randomBytes(3_000_017)
  let scene: Scene
  let artifact: Wire
  let etag: string
  beforeAll(async () => {
    scene = await Scene.open()
    artifact = await scene.publish(bytes, { name: 'sub/räp ort;".bin' })
    etag = `"${artifact.sha256}"`
  })
  const read = (headers: Record<string, string> = {}, method = "GET") =>
    api(scene.reader.key, method, `${scene.path}/${artifact.id}/content`, undefined, headers)

  it("is the bytes, whole, with every header of the contract", async () => {
    const answer = expectStatus(await read(), 200)
    expect(answer.bytes.equals(bytes)).toBe(true)
    expect(answer.headers).toMatchObject({
      etag,
      "content-length": String(bytes.length),
      "content-type": "application/octet-stream",
      "accept-ranges": "bytes",
      "repr-digest": digestOf(bytes),
      "cache-control": "private, no-cache",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    })
    expect(Math.abs(Date.parse(answer.headers["last-modified"]!) - Date.now())).toBeLessThan(300_000)
    expect(answer.headers["x-request-id"]).toBeTruthy()
  })

  it("names the file by its last segment, in RFC 8187 form, and cannot be broken out of", async () => {
    const disposition = (await read()).headers["content-disposition"]!
    expect(disposition).toMatch(/^attachment;/)
    expect(disposition).toContain("filename*=UTF-8''r%C3%A4p%20ort%3B%22.bin")
    expect(disposition).not.toContain("sub")
  })

  it("answers HEAD with the same headers and no bytes", async () => {
    const get = await read()
    const answer = expectStatus(await read({}, "HEAD"), 200)
    expect(answer.bytes).toHaveLength(0)
    for (const name of ["etag", "content-length", "content-type", "repr-digest", "accept-ranges", "last-modified"])
      expect(answer.headers[name], name).toBe(get.headers[name])
  })

  it.each([
    ["bytes=0-0", 0, 1],
    ["bytes=0-", 0, 3_000_017],
    ["bytes=1000000-1000099", 1_000_000, 1_000_100],
    ["bytes=3000016-", 3_000_016, 3_000_017],
    ["bytes=3000000-99999999999", 3_000_000, 3_000_017],
    ["bytes=-5", 3_000_012, 3_000_017],
    ["bytes=-99999999999", 0, 3_000_017],
  ] as const)("answers the range %s with 206", async (range, from, to) => {
    const answer = expectStatus(await read({ Range: range }), 206)
    expect(answer.headers["content-range"]).toBe(`bytes ${from}-${to - 1}/3000017`)
    expect(answer.headers["content-length"]).toBe(String(to - from))
    expect(answer.headers["repr-digest"]).toBe(digestOf(bytes))
    expect(answer.bytes.equals(bytes.subarray(from, to))).toBe(true)
  })

  it.each(["bytes=3000017-", "bytes=99999999999-", "bytes=-0"])("answers the range %s with 416", async (range) => {
    const answer = await read({ Range: range })
    expectRefusal(answer, 416, "range_not_satisfiable")
    expect(answer.headers["content-range"]).toBe("bytes */3000017")
  })

  it.each(["bytes=5-1", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=", "bytes=--1"])(
    "answers the range %s, which it does not serve, with the whole",
    async (range) => {
      expect(expectStatus(await read({ Range: range }), 200).bytes).toHaveLength(bytes.length)
    },
  )

  it("honours If-Range by ETag and by date", async () => {
    const modified = (await read({}, "HEAD")).headers["last-modified"]!
    const range = { Range: "bytes=0-9" }
    expectStatus(await read({ ...range, "If-Range": etag }), 206)
    expectStatus(await read({ ...range, "If-Range": `"${"0".repeat(64)}"` }), 200)
    expectStatus(await read({ ...range, "If-Range": `W/${etag}` }), 200)
    expectStatus(await read({ ...range, "If-Range": new Date(0).toUTCString() }), 200)
    expect([200, 206]).toContain((await read({ ...range, "If-Range": modified })).status)
  })

  it("answers 304 without bytes to If-None-Match that matches", async () => {
    for (const value of [etag, `W/${etag}`, `"x", ${etag}`, "*"]) {
      const answer = expectStatus(await read({ "If-None-Match": value }), 304)
      expect(answer.bytes).toHaveLength(0)
      expect(answer.headers.etag).toBe(etag)
    }
    expectStatus(await read({ "If-None-Match": '"other"' }), 200)
  })

  it("answers 412 to If-Match that does not match", async () => {
    expectStatus(await read({ "If-Match": etag }), 200)
    expectStatus(await read({ "If-Match": "*" }), 200)
    expectRefusal(await read({ "If-Match": '"other"' }), 412, "precondition_failed")
    expectRefusal(await read({ "If-Match": `W/${etag}` }), 412, "precondition_failed")
  })

  it("of 0 bytes is empty, and every range of it unsatisfiable", async () => {
    const empty = await scene.publish("")
    const path = `${scene.path}/${empty.id}/content`
    const answer = expectStatus(await api(scene.reader.key, "GET", path), 200)
    expect(answer.headers["content-length"]).toBe("0")
    expect(answer.headers["repr-digest"]).toBe(digestOf(Buffer.alloc(0)))
    expectRefusal(await api(scene.reader.key, "GET", path, undefined, { Range: "bytes=0-0" }), 416)
  })

  it.each([
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "text/plain",
    "text/markdown",
    "text/csv",
    "application/json",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/mp4",
    "video/mp4",
    "video/webm",
    "text/plain; charset=utf-8",
  ])("is shown inline, in a sandbox, when it is %s", async (mime) => {
    const { id } = await scene.publish("x", { mime })
    const { headers } = expectStatus(await scene.get(`/${id}/content`), 200)
    expect(headers["content-type"]).toBe(mime)
    expect(headers["content-disposition"]).toMatch(/^inline;/)
    expect(headers["content-security-policy"]).toMatch(/sandbox/)
    expect(headers["x-content-type-options"]).toBe("nosniff")
  })

  it.each([
    "text/html",
    "TEXT/HTML",
    "image/svg+xml",
    "application/xml",
    "text/xml",
    "application/pdf",
    "text/javascript",
    "application/javascript",
    "application/xhtml+xml",
    "text/css",
    "image/bmp",
    "application/octet-stream",
  ])("is an attachment when it is %s", async (mime) => {
    const { id } = await scene.publish("<script>alert(1)</script>", { mime })
    const { headers } = expectStatus(await scene.get(`/${id}/content`), 200)
    expect(headers["content-disposition"]).toMatch(/^attachment;/)
    expect(headers["x-content-type-options"]).toBe("nosniff")
  })

  it("is found by the one form of its path, on its own or behind the address of the server", async () => {
    const path = `${scene.path}/${artifact.id}/content`
    const answerTo = async (spelling: string) => {
      const socket = await RawSocket.open()
      const lines = [
        `GET ${spelling} HTTP/1.1`,
        "Host: x",
        `Authorization: Bearer ${scene.reader.key}`,
        "Range: bytes=0-3",
      ]
      socket.write([...lines, "", ""].join("\r\n"))
      return socket.answer().finally(() => socket.close())
    }
    const encoded = `%${artifact.id.charCodeAt(0).toString(16)}${artifact.id.slice(1)}`
    for (const spelling of [path, `HTTP://x${path}`])
      expect(expectStatus(await answerTo(spelling), 206).bytes.equals(bytes.subarray(0, 4)), spelling).toBe(true)
    for (const spelling of [`/${path}`, `${path}/`, path.replace(artifact.id, encoded)])
      expectRefusal(await answerTo(spelling), 404, "not_found")
    expectRefusal(await answerTo(path.replace(artifact.id, "%E0%A4%A")), [400, 404])
    expectRefusal(await answerTo(path.replace(artifact.id, "art_1%2F..%2F..")), 404)
    for (const nothing of ["http://x", "http://x?a=b", "http://x/"]) expectRefusal(await answerTo(nothing), 404)
  })

  it("is 404 once deleted", async () => {
    const { id } = await scene.publish("x")
    expectStatus(await scene.remove(id), 204)
    expectRefusal(await scene.get(`/${id}/content`), 404, "not_found")
  })

  it("is whole or 404 while it is being deleted, and never a fault", async () => {
    const readUntilGone = async (id: string): Promise<void> => {
      for (;;) {
        const answer = await scene.get(`/${id}/content`)
        if (answer.status === 404) return
        expectStatus(answer, 200)
      }
    }
    for (let round = 0; round < 40; round++) {
      const { id } = await scene.publish("gone in a moment")
      const readers = Array.from({ length: 12 }, () => readUntilGone(id))
      expectStatus(await scene.remove(id), 204)
      await Promise.all(readers)
    }
  })

  it("needs a key with mobius.project.view", async () => {
    expectRefusal(await send(`${scene.path}/${artifact.id}/content`), 401, "unauthorized")
    const blind = await scene.newKey("service", [permissions.edit])
    expectRefusal(await scene.get(`/${artifact.id}/content`, blind.key), [403, 404])
  })

  it("is right for many readers at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, n) => read(n % 2 === 0 ? {} : { Range: `bytes=${n}-${1_000_000 + n}` })),
    )
    for (const [n, answer] of answers.entries())
      expect(sha256(answer.bytes)).toBe(sha256(n % 2 === 0 ? bytes : bytes.subarray(n, 1_000_001 + n)))
  })
})
