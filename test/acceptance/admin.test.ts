import { beforeAll, describe, expect, it } from "vitest"
import { inTwoHalves, multipart, field, filePart } from "./support/multipart.ts"
import { permissions, Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, unique, until } from "./support/wire.ts"
import { target } from "./target.ts"

describe("projects", () => {
  const path = (handle: string) => `/v1/admin/projects/${handle}`

  it("are created, shown and changed by the admin key", async () => {
    const handle = unique("made")
    const made = await api(target.adminKey, "PUT", path(handle), { quota_bytes: 1000 })
    expect([200, 201]).toContain(made.status)
    expect(made.json).toMatchObject({ limit_bytes: 1000, used_bytes: 0, reserved_bytes: 0 })
    expectStatus(await api(target.adminKey, "PUT", path(handle), { quota_bytes: 2000 }), 200)
    expect(expectStatus(await api(target.adminKey, "GET", path(handle)), 200).json).toMatchObject({ limit_bytes: 2000 })
  })

  it("have the default quota when none is named, and keep theirs when it is not named again", async () => {
    const handle = unique("made")
    const made = await api(target.adminKey, "PUT", path(handle), {})
    expect([200, 201]).toContain(made.status)
    expect(made.json.limit_bytes).toBeGreaterThan(0)
    await api(target.adminKey, "PUT", path(handle), { quota_bytes: 77 })
    expect(expectStatus(await api(target.adminKey, "PUT", path(handle), {}), 200).json.limit_bytes).toBe(77)
  })

  it.each([-1, 1.5, "1", null, 2 ** 60])("refuse a quota of %s with 400", async (quota) => {
    const answer = await api(target.adminKey, "PUT", path(unique("made")), { quota_bytes: quota })
    expectRefusal(answer, 400, "bad_request")
  })

  it.each(["UPPER", "-a", "a--b", "a_b", "a%2Fb", "ü"])("refuse the handle %s", async (handle) => {
    expectRefusal(await api(target.adminKey, "PUT", path(handle), { quota_bytes: 1 }), [400, 404])
  })

  it("are 404 when unknown", async () => {
    expectRefusal(await api(target.adminKey, "GET", path("unknown-project")), 404, "not_found")
    const body = { principal: { kind: "user", id: "x" }, permissions: [] }
    expectRefusal(await api(target.adminKey, "POST", `${path("unknown-project")}/api-keys`, body), 404, "not_found")
  })

  it("need the admin key", async () => {
    const scene = await Scene.open()
    for (const [method, tail] of [
      ["GET", ""],
      ["PUT", ""],
      ["GET", "/api-keys"],
      ["POST", "/api-keys"],
    ] as const) {
      const body = method === "GET" ? undefined : {}
      expectRefusal(await api(scene.editor.key, method, path(scene.handle) + tail, body), 403, "permission_denied")
      expectRefusal(await api(undefined, method, path(scene.handle) + tail, body), 401, "unauthorized")
    }
  })
})

describe("API keys", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })
  const keys = () => `/v1/admin/projects/${scene.handle}/api-keys`

  it("are shown once", async () => {
    const principal = { kind: "service", id: "ci/runner" }
    const body = { principal, permissions: [permissions.view] }
    const made = expectStatus(await api(target.adminKey, "POST", keys(), body), 201).json
    expect(made).toMatchObject(body)
    expect(made.id).toMatch(/^cred_/)
    expect(made.key).toMatch(/^mbx_/)
    const listed = await api(target.adminKey, "GET", keys())
    const shown = expectStatus(listed, 200).json.items.find(({ id }: { id: string }) => id === made.id)
    expect(shown).toMatchObject(body)
    expect(listed.bytes.toString()).not.toContain(made.key)
    expect(listed.bytes.toString()).not.toContain(made.key.slice(4, 24))
  })

  it("are taken with a trailing .{project}, and refused with a wrong one", async () => {
    expectStatus(await scene.get("", `${scene.reader.key}.${scene.handle}`), 200)
    expectRefusal(await scene.get("", `${scene.reader.key}.other`), 401, "unauthorized")
    expectRefusal(await scene.get("", `${scene.reader.key}.`), 401, "unauthorized")
  })

  it("cannot be given the admin's power", async () => {
    for (const permission of ["admin", "mobius.admin", "*", "mobius.project.*", "mobius.unknown"]) {
      const body = { principal: { kind: "user", id: "x" }, permissions: [permission] }
      expectRefusal(await api(target.adminKey, "POST", keys(), body), 400, "bad_request")
    }
  })

  it.each([
    [{}],
    [{ principal: { kind: "robot", id: "x" }, permissions: [] }],
    [{ principal: { kind: "user", id: "" }, permissions: [] }],
    [{ principal: { kind: "user", id: "a\u0000b" }, permissions: [] }],
    [{ principal: { kind: "user", id: "x" }, permissions: "all" }],
    [{ principal: { kind: "user", id: "x" }, permissions: [], expires_at: "tomorrow" }],
  ])("refuse %j with 400", async (body) => {
    expectRefusal(await api(target.adminKey, "POST", keys(), body), 400, "bad_request")
  })

  it("end at expires_at", async () => {
    const body = {
      principal: { kind: "user", id: "brief" },
      permissions: [permissions.view],
      expires_at: new Date(Date.now() + 2_000).toISOString(),
    }
    const { key } = expectStatus(await api(target.adminKey, "POST", keys(), body), 201).json
    expectStatus(await scene.get("", key), 200)
    await until(
      () => scene.get("", key),
      ({ status }) => status === 401,
      7_000,
    )
  })

  it("are refused within 5 s of their revocation", async () => {
    const key = await scene.newKey("user", [permissions.view])
    expectStatus(await scene.get("", key.key), 200)
    expectStatus(await scene.revoke(key), 204)
    const answer = await until(
      () => scene.get("", key.key),
      ({ status }) => status !== 200,
      5_000,
    )
    expectRefusal(answer, 401, "unauthorized")
  })

  it("revoked in the middle of an upload let it not become ready", async () => {
    const other = await Scene.open()
    const body = multipart([field("name", "late.bin"), filePart(Buffer.alloc(300_000))])
    const { chunks, reached, resume } = inTwoHalves(body.bytes)
    const upload = other.post(body, { chunked: chunks })
    await reached
    expectStatus(await other.revoke(other.worker), 204)
    resume()
    expectRefusal(await upload, 401, "unauthorized")
    expect(await other.list("", other.editor.key)).toEqual([])
    expect(await other.books()).toMatchObject({ used: 0, reserved: 0 })
  })

  it("of the admin open nothing else", async () => {
    expectRefusal(await scene.get("", target.adminKey), 403, "permission_denied")
    expectRefusal(await scene.post(multipart([field("name", "x"), filePart("x")]), { key: target.adminKey }), 403)
    expectRefusal(await api(target.adminKey, "GET", `/v1/projects/${scene.handle}/events`), 403, "permission_denied")
  })
})
