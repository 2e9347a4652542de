import { beforeAll, describe, expect, it } from "vitest"
import { type Key, permissions, Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, type Wire } from "./support/wire.ts"

describe("a private artifact", () => {
  let scene: Scene
  let artifact: Wire
  let owner: Key
  beforeAll(async () => {
    scene = await Scene.open()
    owner = await scene.newKey("user", [permissions.view], scene.owner.id)
    artifact = await scene.publish("private", { lease: (await scene.claim({ visibility: "private" })).token })
  })
  const sees = async (key: string) => (await scene.list("?limit=100", key)).some(({ id }) => id === artifact.id)

  it("is seen and read by its owner and its creator", async () => {
    expect(artifact.visibility).toBe("private")
    for (const { key } of [owner, scene.worker]) {
      expect(await sees(key)).toBe(true)
      expect(expectStatus(await scene.get(`/${artifact.id}`, key), 200).json).toEqual(artifact)
      expect(expectStatus(await scene.get(`/${artifact.id}/content`, key), 200).bytes.toString()).toBe("private")
    }
  })

  it("is 404 to everyone else, in lists and reads alike", async () => {
    const { key } = scene.reader
    expect(await sees(key)).toBe(false)
    expectRefusal(await scene.get(`/${artifact.id}`, key), 404, "not_found")
    expectRefusal(await scene.get(`/${artifact.id}/content`, key), 404, "not_found")
    expectRefusal(await scene.remove(artifact.id, key), 404, "not_found")
  })

  it("is seen by mobius.project.edit in its metadata, never in its bytes", async () => {
    const { key } = scene.editor
    expect(await sees(key)).toBe(true)
    expectStatus(await scene.get(`/${artifact.id}`, key), 200)
    expectRefusal(await scene.get(`/${artifact.id}/content`, key), 404, "not_found")
  })

  it("is not opened by a principal of the same id and another kind", async () => {
    const twin = await scene.newKey("service", [permissions.view], scene.owner.id)
    expect(await sees(twin.key)).toBe(false)
    expectRefusal(await scene.get(`/${artifact.id}/content`, twin.key), 404, "not_found")
  })

  it("is hidden as a tombstone as well", async () => {
    const held = await scene.claim({ visibility: "private" })
    const { id } = await scene.publish("gone", { lease: held.token })
    expectStatus(await scene.remove(id), 204)
    expectRefusal(await scene.get(`/${id}?include=deleted`, scene.reader.key), 404, "not_found")
    expect((await scene.list("?state=deleted", scene.reader.key)).map((one) => one.id)).not.toContain(id)
    expectStatus(await scene.get(`/${id}?include=deleted`, owner.key), 200)
  })
})

describe("deleting", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })

  it("answers 204, and 204 again", async () => {
    const { id } = await scene.publish("x")
    expectStatus(await scene.remove(id), 204)
    expectStatus(await scene.remove(id), 204)
  })

  it("frees the quota at once", async () => {
    const before = await scene.books()
    const { id } = await scene.publish("12345")
    expect((await scene.books()).used).toBe(before.used + 5)
    expectStatus(await scene.remove(id), 204)
    expect(await scene.books()).toEqual(before)
  })

  it("needs mobius.project.edit or ownership", async () => {
    const artifact = await scene.publish("x")
    const refusal = expectRefusal(await scene.remove(artifact.id, scene.reader.key), 403, "permission_denied")
    expect(refusal.details).toMatchObject({ permission: permissions.edit })
    const owner = await scene.newKey("user", [permissions.view], scene.owner.id)
    expectStatus(await scene.remove(artifact.id, owner.key), 204)
  })

  it("is 404 under another project's path", async () => {
    const { id } = await scene.publish("x")
    const other = await Scene.open()
    expectRefusal(await api(other.editor.key, "DELETE", `${scene.path}/${id}`), 404, "not_found")
    expectRefusal(await api(other.editor.key, "DELETE", `${other.path}/${id}`), 404, "not_found")
    expectStatus(await scene.get(`/${id}`), 200)
  })

  it("by many at once is one deletion", async () => {
    const { id } = await scene.publish("x")
    const before = (await scene.books()).used
    const answers = await Promise.all(Array.from({ length: 8 }, () => scene.remove(id)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 204))
    expect((await scene.books()).used).toBe(before - 1)
  })
})
