import { afterEach, beforeAll, describe, expect, it } from "vitest"
import { field, filePart, inChunks, multipart } from "./support/multipart.ts"
import type { Part } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { head, RawSocket } from "./support/socket.ts"
import { api, expectRefusal, expectStatus, send, sleep, until } from "./support/wire.ts"
import type { Answer } from "./support/wire.ts"
import { target } from "./target.ts"

const KiB = 1024
const type = "multipart/form-data; boundary=b"
const clientFaults = Array.from({ length: 100 }, (_, index) => 400 + index)

const part = (name: string, value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n${headers}\r\n${value}\r\n`
const file = (value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n${headers}\r\n${value}\r\n`
const end = "--b--\r\n"
const good = part("name", "hostile.bin") + file("content") + end

let scene: Scene
const sockets: Array<RawSocket> = []
beforeAll(async () => {
  scene = await Scene.open()
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.close()
  expectStatus(await send("/healthz"), 200)
  await scene.expectUntouched()
  const pending = await until(
    () => scene.quota(),
    ({ pending_count }) => pending_count === 0,
  )
  expect(pending).toMatchObject({ used_bytes: 0, artifact_count: 0 })
})

const connect = async (): Promise<RawSocket> => {
  const socket = await RawSocket.open()
  sockets.push(socket)
  return socket
}

const requestHead = (headers: Record<string, string>, path = scene.path) =>
  head(path, { ...scene.headers(), ...headers })

/** What is answered to these bytes and nothing after them. */
const answerTo = async (bytes: string | Uint8Array, millis?: number): Promise<Answer> => {
  const socket = await connect()
  socket.write(bytes)
  return socket.answer(millis)
}

/** What is answered to a body that has the length it says. */
const post = (body: string, headers: Record<string, string> = {}): Promise<Answer> => {
  const bytes = Buffer.from(body, "latin1")
  const lengths = { "Content-Type": type, "Content-Length": String(bytes.length) }
  return answerTo(Buffer.concat([Buffer.from(requestHead({ ...lengths, ...headers })), bytes]))
}

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
    const key = path.includes("/admin/") ? target.adminKey : scene.editor.key
    const host = new URL(target.baseUrl).host
    const line = `${method} ${path.replace("PROJECT", scene.handle)} HTTP/1.1\r\nHost: ${host}\r\n`
    expectRefusal(await answerTo(`${line}Authorization: Bearer ${key}\r\n\r\n`), [400, 403, 404])
  })

  it.each(["?name_prefix=%zz", "?run_id=%E0%A4%A", "?mime=%00", "?job_id=a%00b"])(
    "in a filter are no fault of the node: %s",
    async (query) => {
      const answer = await scene.get(query)
      if (answer.status === 200) expect(answer.json.items).toEqual([])
      else expectRefusal(answer, 400, "bad_request")
    },
  )

  it("do not hide a lineage parameter", async () => {
    const answer = await scene.postParts([field("name", "q"), filePart("x")], { query: "?%zz=%&run%5Fid=1" })
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
    expectRefusal(await post(good, { "Content-Type": contentType }), 400, "bad_request")
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
    expectRefusal(await post(body), 400)
  })

  it.each([10_000, 30_000])("are refused: metadata nested %d deep", async (depth) => {
    const metadata = `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`
    expectRefusal(await post(part("name", "x") + part("metadata", metadata) + file("x") + end), 400, "bad_request")
  })

  it.each(["__proto__", "constructor", "toString", "hasOwnProperty"])("are refused: the field %s", async (name) => {
    expectRefusal(await post(part(name, "{}") + good), 400, "unknown_field")
    expectRefusal(await post(file("x") + part("name", "x") + part(name, "{}") + end), 400, "unknown_field")
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
    const answer = await answerTo(
      requestHead({ "Content-Type": type, "Content-Length": String(bytes.length - 10) }) + good,
    )
    expectRefusal(answer, 400, "bad_request")
  })

  it(
    "are refused: a Content-Length that is too large, once no more comes",
    async () => {
      const answer = await answerTo(
        requestHead({ "Content-Type": type, "Content-Length": String(bytes.length + 10) }) + good,
        (target.uploadIdleSeconds + 10) * 1000,
      )
      expectRefusal(answer, 400, "bad_request")
    },
    (target.uploadIdleSeconds + 20) * 1000,
  )

  it("leave nothing when the sender goes away before the length it stated", async () => {
    const socket = await connect()
    socket.write(requestHead({ "Content-Type": type, "Content-Length": String(bytes.length + 10) }) + good)
    await until(
      () => scene.quota(),
      ({ pending_count }) => pending_count === 1,
    )
    socket.close()
    await until(
      () => scene.quota(),
      ({ pending_count }) => pending_count === 0,
    )
    await until(
      () => scene.books(),
      ({ reserved }) => reserved === 0,
    )
  })

  it.each(["x", "-1", "1e3", "99999999999999999999", "5, 6"])("are refused: Content-Length: %s", async (length) => {
    expectRefusal(await answerTo(requestHead({ "Content-Type": type, "Content-Length": length }) + good), [400, 413])
  })

  it("are refused: a Content-Length beside Transfer-Encoding", async () => {
    const headers = { "Content-Type": type, "Content-Length": String(bytes.length), "Transfer-Encoding": "chunked" }
    expectRefusal(await answerTo(`${requestHead(headers)}${bytes.length.toString(16)}\r\n${good}\r\n0\r\n\r\n`), 400)
  })

  it("are refused: chunks that are none", async () => {
    const headers = { "Content-Type": type, "Transfer-Encoding": "chunked" }
    expectRefusal(await answerTo(`${requestHead(headers)}5\r\n--b\r\n\r\nZZ\r\nnonsense`), 400)
  })
})

describe("heads that are none", () => {
  it("are refused: no HTTP at all", async () => {
    expectRefusal(await answerTo("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400)
  })

  it("are refused: giant headers", async () => {
    expectRefusal(await answerTo(requestHead({ "X-Pad": "a".repeat(200_000), "Content-Length": "0" })), clientFaults)
  })

  it("are refused: a giant lease token", async () => {
    const lease = `lease_${"0".repeat(8_000)}`
    expectRefusal(await post(good, { "X-Mobius-Lease-Token": lease }), 403, "lease_invalid")
  })

  it("are refused: an expectation that nobody knows", async () => {
    const headers = { "Content-Type": type, "Content-Length": String(good.length), Expect: "a miracle" }
    expectRefusal(await answerTo(requestHead(headers)), 417)
  })

  it.each(["PATCH", "PUT", "OPTIONS"])("are refused: %s on the artifacts", async (method) => {
    expectRefusal(await api(scene.worker.key, method, scene.path), [404, 405])
  })
})

describe("Expect: 100-continue", () => {
  const expecting = (headers: Record<string, string> = {}) =>
    requestHead({ "Content-Type": type, "Content-Length": String(good.length), Expect: "100-continue", ...headers })

  it.each([
    ["a bad lease", { "X-Mobius-Lease-Token": "lease_bad" }, 403, "lease_invalid"],
    ["a bad key", { Authorization: "Bearer mbx_bad" }, 401, "unauthorized"],
    ["no boundary", { "Content-Type": "multipart/form-data" }, 400, "bad_request"],
    ["too large a body", { "Content-Length": String(target.maxArtifactBytes * 2) }, 413, "payload_too_large"],
    ["a bad Idempotency-Key", { "Idempotency-Key": "k".repeat(256) }, 400, "bad_request"],
  ])("is answered by the refusal, not by a continue: %s", async (_, headers, status, code) => {
    const answer = await answerTo(expecting(headers))
    expectRefusal(answer, status, code)
    expect(answer.headers["connection"]).toBe("close")
  })

  it("is answered by a continue, and the body by its refusal", async () => {
    const socket = await connect()
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
      const socket = await connect()
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
          answerTo(
            requestHead({ "Content-Type": type, "Content-Length": String(good.length) }) + good.slice(0, cut),
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
    const other = await Scene.open()
    const body = multipart([field("name", "open.bin"), filePart(Buffer.alloc(10 * KiB))])
    const headers = {
      ...other.headers(),
      "Content-Type": body.contentType,
      "Content-Length": String(body.bytes.length),
    }
    const opening = Buffer.concat([Buffer.from(head(other.path, headers)), body.bytes.subarray(0, 500)])
    const open = await Promise.all(Array.from({ length: target.maxOpenUploads }, () => connect()))
    for (const socket of open) socket.write(opening)
    await until(
      () => other.quota(),
      ({ pending_count }) => pending_count === target.maxOpenUploads,
    )
    const refused = await other.post(body)
    expectRefusal(refused, 503, "service_unavailable")
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0)
    expectStatus(await other.get("/quota"), 200)
    for (const socket of open) socket.write(body.bytes.subarray(500))
    for (const socket of open) expectStatus(await socket.answer(), 201)
    expectStatus(await other.post(body), 201)
    expect(await other.quota()).toMatchObject({ artifact_count: target.maxOpenUploads + 1, pending_count: 0 })
  })
})

describe("JSON bodies", () => {
  const routes = () =>
    [
      ["PUT", `/v1/admin/projects/${scene.handle}`],
      ["POST", `/v1/admin/projects/${scene.handle}/api-keys`],
      ["PUT", `/v1/projects/${scene.handle}/claims/job`],
    ] as const
  const sendJson = (method: string, path: string, body: string | Uint8Array | AsyncIterable<Uint8Array>) =>
    send(path, {
      method,
      headers: { Authorization: `Bearer ${target.adminKey}`, "Content-Type": "application/json" },
      body,
    })

  it("over 1 MiB are refused with 413, with and without a Content-Length", async () => {
    const large = Buffer.from(JSON.stringify({ pad: "x".repeat(1024 * KiB) }))
    for (const [method, path] of routes()) {
      expectRefusal(await sendJson(method, path, large), 413, "payload_too_large")
      expectRefusal(await sendJson(method, path, inChunks(large, 64 * KiB)), 413, "payload_too_large")
    }
  })

  it.each(["{", "[]", "null", '"text"', "1", "{'a':1}", '{"a":1}}', "\0", `${"[".repeat(100_000)}`, '{"__proto__":'])(
    "that are no object are refused: %.20s",
    async (body) => {
      for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
    },
  )

  it("that are not UTF-8 are refused", async () => {
    const body = Buffer.from('{"a":"\xff"}', "latin1")
    for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
  })

  it("nested 100,000 deep are refused", async () => {
    const body = `{"quota_bytes":${"[".repeat(100_000)}${"]".repeat(100_000)}}`
    for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
  })

  it.each([
    ["session\0", "worker_session_id"],
    ["run\0", "run_id"],
    ["\ud800", "step_id"],
  ])("with %j as an id are refused", async (value, name) => {
    const answer = await scene.putClaim("hostile", { ...scene.claimBody(), [name]: value })
    expectRefusal(answer, 400, "bad_request")
  })

  it("of another type are refused", async () => {
    const answer = await send(`/v1/admin/projects/${scene.handle}`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${target.adminKey}`, "Content-Type": "text/xml" },
      body: "<a/>",
    })
    expectRefusal(answer, 400, "bad_request")
  })

  it("that never come whole are no reason to wait for ever", async () => {
    const socket = await connect()
    const headers = {
      Authorization: `Bearer ${target.adminKey}`,
      "Content-Type": "application/json",
      "Content-Length": "9",
    }
    socket.write(head(`/v1/admin/projects/${scene.handle}/api-keys`, headers) + '{"a"')
    expectRefusal(await socket.answer(40_000), 400, "bad_request")
  }, 45_000)
})

describe("many at once", () => {
  it("of all kinds leave the node alive, and nothing behind", async () => {
    const attempts = Array.from({ length: 30 }, async (_, index) => {
      const socket = await connect()
      const length = String(good.length + 1_000)
      socket.write(requestHead({ "Content-Type": type, "Content-Length": length }) + good.slice(0, index * 5))
      await sleep(10 + index * 7)
      socket.close()
    })
    await Promise.all(attempts)
    await until(
      () => scene.books(),
      ({ reserved }) => reserved === 0,
    )
  })
})
