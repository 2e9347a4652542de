import { describe, expect, it } from "vitest"
import { Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, send } from "./support/wire.ts"
import { target } from "./target.ts"

describe("the node", () => {
  it("lives and is ready", async () => {
    expectStatus(await send("/healthz"), 200)
    expectStatus(await send("/readyz"), 200)
  })

  it("says what runs at /version, without a key", async () => {
    const { json } = expectStatus(await send("/version"), 200)
    expect(json).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      node: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    })
  })

  it("describes every call of the contract in /openapi.json", async () => {
    const { openapi, paths } = expectStatus(await send("/openapi.json"), 200).json
    expect(openapi).toMatch(/^3\.1/)
    for (const root of ["/v1/projects/{project}/artifacts", "/v1/artifacts"]) {
      expect(paths[root]).toMatchObject({ get: {}, post: {} })
      expect(paths[`${root}/quota`]).toMatchObject({ get: {} })
      expect(paths[`${root}/{id}`]).toMatchObject({ get: {}, delete: {} })
      expect(paths[`${root}/{id}/content`]).toMatchObject({ get: {}, head: {} })
      expect(paths[`${root}/{id}/signed-url`]).toMatchObject({ post: {} })
    }
    for (const path of ["/healthz", "/readyz", "/version"]) expect(paths[path]).toMatchObject({ get: {} })
    expect(paths["/v1/admin/projects/{project}"]).toMatchObject({ get: {}, put: {} })
    expect(paths["/v1/admin/projects/{project}/api-keys"]).toMatchObject({ get: {}, post: {} })
    expect(paths["/v1/admin/projects/{project}/api-keys/{id}"]).toMatchObject({ delete: {} })
    expect(paths["/v1/admin/events"]).toMatchObject({ get: {} })
    expect(paths["/v1/projects/{project}/events"]).toMatchObject({ get: {} })
    expect(paths["/v1/projects/{project}/claims/{job_id}"]).toMatchObject({ put: {}, delete: {} })
    expect(paths["/v1/projects/{project}/claims/{job_id}/heartbeat"]).toMatchObject({ post: {} })
  })

  it("shows its documentation at /docs", async () => {
    const answer = expectStatus(await send("/docs"), 200)
    expect(answer.headers["content-type"]).toMatch(/^text\/html/)
  })

  it("returns the X-Request-Id it was given, and one of its own otherwise", async () => {
    const scene = await Scene.open()
    const given = await scene.get("", scene.reader.key, { "X-Request-Id": "trace-42" })
    expect(given.headers["x-request-id"]).toBe("trace-42")
    expect((await scene.get("")).headers["x-request-id"]).toBeTruthy()
    const refused = await send("/nowhere", { headers: { "X-Request-Id": "trace-43" } })
    expect(refused.headers["x-request-id"]).toBe("trace-43")
  })

  it("answers unknown paths with 404 and unknown methods with 405 in the one envelope", async () => {
    for (const path of ["/", "/v1", "/v1/nothing", "/v1/projects", "//", "/v1/projects//artifacts"])
      expectRefusal(await send(path), [401, 404])
    const scene = await Scene.open()
    for (const method of ["PUT", "PATCH", "DELETE"])
      expectRefusal(await api(scene.editor.key, method, scene.path), 405, "method_not_allowed")
  })

  it("tells nothing of its inside in a refusal", async () => {
    const scene = await Scene.open()
    const answers = await Promise.all([
      scene.get("/%27"),
      scene.get("?limit=%27"),
      api(target.adminKey, "PUT", `/v1/admin/projects/${scene.handle}`, { quota_bytes: "'" }),
      scene.get("", `${scene.reader.key}x`),
    ])
    for (const answer of answers) {
      const text = answer.bytes.toString()
      expect(answer.status).toBeGreaterThanOrEqual(400)
      expect(text).not.toMatch(/select |insert |at file:|node_modules|\/src\/|stack|Error:/i)
      expect(text).not.toContain(scene.reader.key)
      expect(text).not.toContain(target.adminKey)
    }
  })
})
