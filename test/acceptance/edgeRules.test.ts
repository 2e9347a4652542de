import { describe, expect, it } from "vitest"
import { field, filePart } from "./support/multipart.ts"
import { permissions, Scene } from "./support/scene.ts"
import { RawSocket } from "./support/socket.ts"
import { api, expectRefusal, expectStatus, send, unique } from "./support/wire.ts"
import { target } from "./target.ts"

/** Written to the socket as it stands: a client library would bring the path into a form of its own. */
const ask = async (line: string, headers: Record<string, string> = {}) => {
  const socket = await RawSocket.open()
  const all = { Host: new URL(target.baseUrl).host, ...headers }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`${line}\r\n${lines.join("")}\r\n`)
  return socket.answer()
}

describe("a path in another form than the normal one is no path, whoever asks", () => {
  it.each([
    "/V1/admin/projects/PROJECT",
    "/v1/ADMIN/projects/PROJECT",
    "/v1/%61dmin/projects/PROJECT",
    "//v1/admin/projects/PROJECT",
    "/v1//admin/projects/PROJECT",
    "/v1/admin/projects/PROJECT/",
    "/v1/admin/projects/PROJECT;x",
    "/v1/admin/projects/PROJECT#x",
    "/v1/./admin/projects/PROJECT",
    "/v1/x/../admin/projects/PROJECT",
    "/v1\\admin/projects/PROJECT",
  ])("%s", async (path) => {
    const { handle } = await Scene.open()
    const authorization = { Authorization: `Bearer ${target.adminKey}` }
    expectStatus(await ask(`GET /v1/admin/projects/${handle} HTTP/1.1`, authorization), 200)
    expectRefusal(await ask(`GET ${path.replace("PROJECT", handle)} HTTP/1.1`, authorization), 404, "not_found")
  })
})

describe("a query parameter that the call does not know", () => {
  it("is refused on every call, and the message lists those it knows", async () => {
    const scene = await Scene.open()
    const { id } = await scene.publish("x")
    const refused = expectRefusal(await scene.get("?runid=run:1"), 400, "unknown_field")
    expect(refused).toEqual({
      code: "unknown_field",
      message:
        'There is no query parameter "runid". Known here: run_id, step_id, job_id, mime, name_prefix, state, cursor, limit.',
      details: { field: "runid" },
    })
    for (const path of [`/${id}?x=1`, `/${id}/content?x=1`, "/quota?x=1", `/${id}?include=deleted&state=ready`])
      expectRefusal(await scene.get(path), 400, "unknown_field")
    expectRefusal(
      await scene.postParts([field("name", "x"), filePart("x")], { query: "?nmae=1" }),
      400,
      "unknown_field",
    )
    expectRefusal(await api(scene.editor.key, "DELETE", `${scene.path}/${id}?force=1`), 400, "unknown_field")
    const admin = await api(target.adminKey, "GET", `/v1/admin/projects/${scene.handle}?x`)
    expectRefusal(admin, 400, "unknown_field")
    expectRefusal(await send("/healthz?x=1"), 400, "unknown_field")
    expect(await scene.list()).toHaveLength(1)
  })
})

describe("a method that the path does not have", () => {
  it("is 405 with the methods it has", async () => {
    const scene = await Scene.open()
    for (const [method, path, allow] of [
      ["PUT", scene.path, "GET, HEAD, POST"],
      ["PATCH", `${scene.path}/art_1`, "DELETE, GET, HEAD"],
      ["POST", `${scene.path}/art_1/content`, "GET, HEAD"],
      ["DELETE", "/healthz", "GET, HEAD"],
      ["OPTIONS", "/v1/whatever", undefined],
    ] as const) {
      const answer = await api(scene.editor.key, method, path)
      if (allow === undefined) expectRefusal(answer, 404, "not_found")
      else expectRefusal(answer, 405, "method_not_allowed")
      expect(answer.headers["allow"]).toBe(allow)
    }
  })
})

describe("job ids", () => {
  it("have up to 200 characters on every call", async () => {
    const scene = await Scene.open()
    const jobId = "j".repeat(200)
    const held = await scene.claim({ job_id: jobId })
    const path = `/v1/projects/${scene.handle}/claims/${jobId}`
    const lease = { "X-Mobius-Lease-Token": held.token }
    expectStatus(await api(scene.worker.key, "POST", `${path}/heartbeat`, undefined, lease), 200)
    expectStatus(await api(target.adminKey, "DELETE", path), 204)
  })

  it.each(["%00", "j".repeat(201), "a%0Ab"])("that no job can have are refused: %s", async (jobId) => {
    const scene = await Scene.open()
    const manager = await scene.newKey("service", [permissions.claims, permissions.execute])
    const path = `/v1/projects/${scene.handle}/claims/${jobId}`
    for (const key of [manager.key, target.adminKey]) expectRefusal(await api(key, "DELETE", path), 400, "bad_request")
    expectRefusal(await api(manager.key, "PUT", path, scene.claimBody()), 400, "bad_request")
    const lease = { "X-Mobius-Lease-Token": "lease_x" }
    expectRefusal(await api(manager.key, "POST", `${path}/heartbeat`, undefined, lease), 400, "bad_request")
  })
})

describe("signed URLs", () => {
  it("take their life from a JSON body, too", async () => {
    const scene = await Scene.open()
    const { id } = await scene.publish("x")
    const sign = (body: unknown, query = "") =>
      api(scene.reader.key, "POST", `${scene.path}/${id}/signed-url${query}`, body)
    const began = Date.now()
    const { expires_at } = expectStatus(await sign({ ttl_seconds: 30 }), 200).json
    expect(Date.parse(expires_at) - began).toBeLessThanOrEqual(31_000)
    expectRefusal(await sign({ ttl_seconds: 0 }), 400, "bad_request")
    expectRefusal(await sign({ ttl_seconds: "soon" }), 400, "bad_request")
  })

  it("are not kept by caches, nor is any other answer with a secret", async () => {
    const scene = await Scene.open()
    const { id } = await scene.publish("x")
    const answers = [
      await api(scene.reader.key, "POST", `${scene.path}/${id}/signed-url`),
      await scene.putClaim(unique("job"), scene.claimBody()),
      await scene.get(`/${id}`),
      await scene.get(""),
    ]
    expect(answers.map(({ headers }) => headers["cache-control"])).toEqual(answers.map(() => "no-store"))
    expect((await scene.get(`/${id}/content`)).headers["cache-control"]).toBe("private, no-cache")
  })

  if (target.store === "files")
    it("have one form of signature", async () => {
      const scene = await Scene.open()
      const { id } = await scene.publish("x")
      const { url } = expectStatus(await api(scene.reader.key, "POST", `${scene.path}/${id}/signed-url`), 200).json
      expectStatus(await send(url), 200)
      for (const tail of ["!!", "=", "%20", "A"]) expectRefusal(await send(url + tail), 403, "permission_denied")
    })
})

describe("names that change the direction of text", () => {
  it("are shown in the order in which they are stored", async () => {
    const scene = await Scene.open()
    const { id, name } = await scene.publish("x", { name: "invoice\u202egpj.exe" })
    expect(name).toBe("invoice\u202egpj.exe")
    const disposition = (await scene.get(`/${id}/content`)).headers["content-disposition"]
    expect(disposition).toBe(`attachment; filename="invoice_gpj.exe"; filename*=UTF-8''invoice_gpj.exe`)
  })
})

it("a request without a Host is refused in the one envelope", async () => {
  const socket = await RawSocket.open()
  socket.write("GET /healthz HTTP/1.1\r\n\r\n")
  expectRefusal(await socket.answer(), 400, "bad_request")
})
