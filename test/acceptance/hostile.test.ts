import { describe, expect, it } from "vitest"
import { end, file, good, HostileUploads, part, type } from "./support/hostileUploads.ts"
import { field, filePart } from "./support/multipart.ts"
import type { Part } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, until } from "./support/wire.ts"
import { target } from "./target.ts"

const clientFaults = Array.from({ length: 100 }, (_, index) => 400 + index)
const uploads = new HostileUploads()

describe("percent sequences that cannot be read", () => {
  it.each([
    ["GET", "/v1/projects/%/artifacts"],
    ["GET", "/v1/projects/%zz/artifacts"],
    ["GET", "/v1/projects/%E0%A4%A/artifacts"],
    ["GET", "/v1/projects/PROJECT/artifacts/%zz"],
    ["GET", "/v1/projects/PROJECT/artifacts/%E0%A4%A/content"],
    ["GET", "/v1/projects/PROJECT/artifacts/art_1%00"],
    ["DELETE", "/v1/projects/PROJECT/artifacts/%ff"],
    ["GET", "/v1/projects/PROJECT/artifacts?cursor=%zz"],
    ["GET", "/v1/projects/PROJECT/artifacts?cursor=%E0%A4%A"],
    ["GET", "/v1/projects/PROJECT/artifacts?limit=%"],
    ["GET", "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd"],
    ["GET", "/v1/admin/projects/%zz"],
    ["DELETE", "/v1/projects/PROJECT/claims/%zz"],
  ])("are refused: %s %s", async (method, path) => {
    const key = path.includes("/admin/") ? target.adminKey : uploads.scene.editor.key
    const host = new URL(target.baseUrl).host
    const line = `${method} ${path.replace("PROJECT", uploads.scene.handle)} HTTP/1.1\r\nHost: ${host}\r\n`
    expectRefusal(await uploads.answerTo(`${line}Authorization: Bearer ${key}\r\n\r\n`), [400, 403, 404])
  })

  it.each(["?name_prefix=%zz", "?run_id=%E0%A4%A", "?mime=%00", "?job_id=a%00b"])(
    "in a filter are no fault of the node: %s",
    async (query) => {
      const answer = await uploads.scene.get(query)
      if (answer.status === 200) expect(answer.json.items).toEqual([])
      else expectRefusal(answer, 400, "bad_request")
    },
  )

  it("do not hide a lineage parameter", async () => {
    const answer = await uploads.scene.postParts([field("name", "q"), filePart("x")], { query: "?%zz=%&run%5Fid=1" })
    expectRefusal(answer, 400, "lineage_not_allowed")
  })
})

describe("bodies that are none", () => {
  it.each([
    ["no Content-Type", ""],
    ["another Content-Type", "application/json"],
    ["no boundary", "multipart/form-data"],
    ["an empty boundary", "multipart/form-data; boundary="],
    ["an overlong boundary", `multipart/form-data; boundary=${"b".repeat(71)}`],
    ["another boundary", "multipart/form-data; boundary=other"],
    ["multipart/mixed", "multipart/mixed; boundary=b"],
  ])("are refused: %s", async (_, contentType) => {
    expectRefusal(await uploads.post(good, { "Content-Type": contentType }), 400, "bad_request")
  })

  it.each([
    ["an empty body", ""],
    ["a body without a boundary", "hello"],
    ["only the final boundary", end],
    ["a body cut inside a part's headers", `${part("name", "x")}--b\r\nContent-Disposition: form-d`],
    [
      "a body cut after a part's headers",
      `${part("name", "x")}--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n`,
    ],
    ["a body cut inside the file", good.slice(0, -12)],
    ["a body cut before its final dashes", good.slice(0, -4)],
    ["a body cut between its final dashes", good.slice(0, -3)],
    ["bare line feeds", good.replaceAll("\r\n", "\n")],
    ["a part without headers", `--b\r\n\r\nx\r\n${good}`],
    ["a header without a colon", `--b\r\nnonsense\r\n\r\nx\r\n${good}`],
    ["giant part headers", part("name", "x", `X-Pad: ${"a".repeat(20_000)}\r\n`) + file("x") + end],
    ["100 headers in one part", part("name", "x", "X: y\r\n".repeat(100)) + file("x") + end],
    ["2,000 fields", Array.from({ length: 2_000 }, (_, index) => part(`f${index}`, "x")).join("") + good],
    ["2,000 fields after the file", file("x") + Array.from({ length: 2_000 }, () => part("name", "x")).join("") + end],
    ["a giant field", part("name", "x".repeat(300_000)) + file("x") + end],
    ["two files", part("name", "x") + file("one") + file("two") + end],
    ["two names", part("name", "x") + part("name", "y") + file("one") + end],
    ["no file", part("name", "x") + end],
    ["a part without a name", `--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n${good}`],
    ["a NUL in a part's name", part("na\0me", "x") + good],
    ["a line end in a part's name", part("na\r\nme", "x") + good],
    ["an encoded file", part("name", "x") + file("eA==", "Content-Transfer-Encoding: base64\r\n") + end],
    ["a NUL in the name", part("name", "a\0b") + file("x") + end],
    ["a line end in the name", part("name", "a\r\nSet-Cookie: b") + file("x") + end],
    ["a name that is not UTF-8", part("name", "\xff\xfe") + file("x") + end],
    ["a bad name after the file", file("x") + part("name", "../x") + end],
    ["a bad sha256 after the file", file("x") + part("name", "x") + part("sha256", "abc") + end],
    ["bad metadata after the file", file("x") + part("name", "x") + part("metadata", "[") + end],
    ["a NUL in metadata", part("name", "x") + part("metadata", '{"a":"\\u0000"}') + file("x") + end],
    ["a NUL in a key of metadata", part("name", "x") + part("metadata", '{"\\u0000":1}') + file("x") + end],
    ["a lone surrogate in metadata", part("name", "x") + part("metadata", '{"a":"\\ud800"}') + file("x") + end],
    ["metadata that is not UTF-8", part("name", "x") + part("metadata", '{"a":"\xff"}') + file("x") + end],
    ["a line end in mime", part("name", "x") + part("mime", "text/plain\r\nX: y") + file("x") + end],
    ["a flood before the first boundary", "x".repeat(100_000) + good],
    ["a flood after the last boundary", good + "x".repeat(100_000)],
  ])("are refused: %s", async (_, body) => {
    expectRefusal(await uploads.post(body), 400)
  })

  it.each([10_000, 30_000])("are refused: metadata nested %d deep", async (depth) => {
    const metadata = `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`
    expectRefusal(
      await uploads.post(part("name", "x") + part("metadata", metadata) + file("x") + end),
      400,
      "bad_request",
    )
  })

  it.each(["__proto__", "constructor", "toString", "hasOwnProperty"])("are refused: the field %s", async (name) => {
    expectRefusal(await uploads.post(part(name, "{}") + good), 400, "unknown_field")
    expectRefusal(await uploads.post(file("x") + part("name", "x") + part(name, "{}") + end), 400, "unknown_field")
  })

  it("take __proto__ in metadata for a key like any other", async () => {
    const other = await Scene.open()
    const parts: ReadonlyArray<Part> = [
      field("name", "proto"),
      field("metadata", '{"__proto__":{"admin":true},"constructor":1}'),
      filePart("x"),
    ]
    const made = expectStatus(await other.postParts(parts), 201)
    const read = expectStatus(await other.get(`/${made.json.id}`), 200)
    for (const { json } of [made, read]) {
      expect(Object.keys(json.metadata).toSorted()).toEqual(["__proto__", "constructor"])
      expect(json.metadata.admin).toBeUndefined()
    }
    expect(await other.publish("y")).not.toHaveProperty("admin")
  })
})

describe("lengths that are wrong", () => {
  const bytes = Buffer.from(good)

  it("are refused: a Content-Length that is too small", async () => {
    const answer = await uploads.answerTo(
      uploads.head({ "Content-Type": type, "Content-Length": String(bytes.length - 10) }) + good,
    )
    expectRefusal(answer, 400, "bad_request")
  })

  it(
    "are refused: a Content-Length that is too large, once no more comes",
    async () => {
      const answer = await uploads.answerTo(
        uploads.head({ "Content-Type": type, "Content-Length": String(bytes.length + 10) }) + good,
        (target.uploadIdleSeconds + 10) * 1000,
      )
      expectRefusal(answer, 400, "bad_request")
    },
    (target.uploadIdleSeconds + 20) * 1000,
  )

  it("leave nothing when the sender goes away before the length it stated", async () => {
    const socket = await uploads.connect()
    socket.write(uploads.head({ "Content-Type": type, "Content-Length": String(bytes.length + 10) }) + good)
    await until(
      () => uploads.scene.quota(),
      ({ pending_count }) => pending_count === 1,
    )
    socket.close()
    await until(
      () => uploads.scene.quota(),
      ({ pending_count }) => pending_count === 0,
    )
    await until(
      () => uploads.scene.books(),
      ({ reserved }) => reserved === 0,
    )
  })

  it.each(["x", "-1", "1e3", "99999999999999999999", "5, 6"])("are refused: Content-Length: %s", async (length) => {
    expectRefusal(
      await uploads.answerTo(uploads.head({ "Content-Type": type, "Content-Length": length }) + good),
      [400, 413],
    )
  })

  it("are refused: a Content-Length beside Transfer-Encoding", async () => {
    const headers = { "Content-Type": type, "Content-Length": String(bytes.length), "Transfer-Encoding": "chunked" }
    expectRefusal(
      await uploads.answerTo(`${uploads.head(headers)}${bytes.length.toString(16)}\r\n${good}\r\n0\r\n\r\n`),
      400,
    )
  })

  it("are refused: chunks that are none", async () => {
    const headers = { "Content-Type": type, "Transfer-Encoding": "chunked" }
    expectRefusal(await uploads.answerTo(`${uploads.head(headers)}5\r\n--b\r\n\r\nZZ\r\nnonsense`), 400)
  })
})

describe("heads that are none", () => {
  it("are refused: no HTTP at all", async () => {
    expectRefusal(await uploads.answerTo("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400)
  })

  it("are refused: giant headers", async () => {
    expectRefusal(
      await uploads.answerTo(uploads.head({ "X-Pad": "a".repeat(200_000), "Content-Length": "0" })),
      clientFaults,
    )
  })

  it("are refused: a giant lease token", async () => {
    const lease = `lease_${"0".repeat(8_000)}`
    expectRefusal(await uploads.post(good, { "X-Mobius-Lease-Token": lease }), 403, "lease_invalid")
  })

  it("are refused: an expectation that nobody knows", async () => {
    const headers = { "Content-Type": type, "Content-Length": String(good.length), Expect: "a miracle" }
    expectRefusal(await uploads.answerTo(uploads.head(headers)), 417)
  })

  it.each(["PATCH", "PUT", "OPTIONS"])("are refused: %s on the artifacts", async (method) => {
    expectRefusal(await api(uploads.scene.worker.key, method, uploads.scene.path), [404, 405])
  })
})
