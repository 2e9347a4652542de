import { beforeAll, describe, expect, it } from "vitest"
import { Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, send, sleep, type Wire } from "./support/wire.ts"
import { target } from "./target.ts"

describe("signed URLs", () => {
  let scene: Scene
  let artifact: Wire
  beforeAll(async () => {
    scene = await Scene.open()
    artifact = await scene.publish("signed content", { name: "a b.txt", mime: "text/plain" })
  })
  const sign = async (query = "", id = artifact.id) =>
    expectStatus(await api(scene.reader.key, "POST", `${scene.path}/${id}/signed-url${query}`), 200).json
  const seconds = (signed: Wire) => (Date.parse(signed.expires_at) - Date.now()) / 1000

  it("serve the bytes by GET without a bearer", async () => {
    const signed = await sign()
    expect(Object.keys(signed).toSorted()).toEqual(["expires_at", "method", "url"])
    expect(signed.method).toBe("GET")
    const answer = expectStatus(await send(signed.url), 200)
    expect(answer.bytes.toString()).toBe("signed content")
  })

  it("live 900 s by default, as long as asked, and at most a day", async () => {
    const close = (value: number, wanted: number) => expect(Math.abs(value - wanted)).toBeLessThan(30)
    close(seconds(await sign()), 900)
    close(seconds(await sign("?ttl_seconds=60")), 60)
    close(seconds(await sign("?ttl_seconds=999999999")), 86_400)
  })

  it.each(["0", "-1", "x", "1.5", ""])("refuse ttl_seconds=%s with 400", async (ttl) => {
    const path = `${scene.path}/${artifact.id}/signed-url?ttl_seconds=${ttl}`
    expectRefusal(await api(scene.reader.key, "POST", path), 400, "bad_request")
  })

  it("die with the artifact", async () => {
    const { id } = await scene.publish("short-lived")
    const signed = await sign("", id)
    expectStatus(await send(signed.url), 200)
    expectStatus(await scene.remove(id), 204)
    expect([403, 404]).toContain((await send(signed.url)).status)
  })

  it.runIf(target.signaturesChecked)("die with their time", async () => {
    const signed = await sign("?ttl_seconds=1")
    await sleep(Math.max(0, seconds(signed) * 1000) + 2_100)
    expect((await send(signed.url)).status).toBe(403)
  })

  it.runIf(target.signaturesChecked)("cannot be changed", async () => {
    const { url } = await sign()
    const other = await scene.publish("another")
    const longer = new URL(url)
    for (const [name, value] of longer.searchParams)
      if (/^\d+$/.test(value)) longer.searchParams.set(name, String(Number(value) + 1000))
    for (const bad of [
      longer.href,
      url.replace(artifact.id, other.id),
      url.slice(0, -1),
      `${url}0`,
      url.split("?")[0]!,
    ])
      if (bad !== url) expect([400, 401, 403, 404], bad).toContain((await send(bad)).status)
  })

  it.runIf(target.store === "files")("carry the headers of content, and ranges", async () => {
    const { url } = await sign()
    const answer = expectStatus(await send(url), 200)
    expect(answer.headers).toMatchObject({
      etag: `"${artifact.sha256}"`,
      "content-type": "text/plain",
      "cache-control": "private, no-cache",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    })
    expectStatus(await send(url, { headers: { Range: "bytes=0-3" } }), 206)
    expectRefusal(await send(url.replace(/signature=[^&]*/, "signature=00")), 403, "permission_denied")
    expect((await send(url, { method: "DELETE" })).status).toBeGreaterThanOrEqual(400)
    expectStatus(await scene.get(`/${artifact.id}`), 200)
  })

  it.runIf(target.store === "s3" && target.signaturesChecked)("are attachments when S3 serves them", async () => {
    const answer = expectStatus(await send((await sign()).url), 200)
    expect(answer.headers["content-type"]).toBe("text/plain")
    expect(answer.headers["cache-control"]).toBeTruthy()
    expect(answer.headers["content-disposition"]).toMatch(/^attachment/)
  })

  it("are given only to those who may read", async () => {
    const held = await scene.claim({ visibility: "private" })
    const hidden = await scene.publish("private", { lease: held.token })
    for (const key of [scene.reader.key, scene.editor.key])
      expectRefusal(await api(key, "POST", `${scene.path}/${hidden.id}/signed-url`), 404, "not_found")
    expectStatus(await api(scene.worker.key, "POST", `${scene.path}/${hidden.id}/signed-url`), 200)
  })
})
