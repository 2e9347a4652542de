import { beforeAll, describe, expect, it } from "vitest"
import { permissions, Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, type Wire } from "./support/wire.ts"

describe("listing", () => {
  let scene: Scene
  let published: Array<Wire>
  beforeAll(async () => {
    scene = await Scene.open()
    published = []
    for (let n = 0; n < 12; n++) {
      const lease = (await scene.claim({ run_id: `run:${n % 2}`, step_id: `step:${n % 3}` })).token
      const mime = ["text/plain", "text/markdown", "image/png"][n % 3]!
      published.push(await scene.publish(`content ${n}`, { name: `dir${n % 4}/file-${n}`, mime, lease }))
    }
  })
  const ids = (items: ReadonlyArray<Wire>) => items.map(({ id }) => id)
  const newestFirst = (keep: (artifact: Wire, n: number) => boolean) => ids(published.filter(keep)).toReversed()

  it("answers newest first, with the artifact as everywhere", async () => {
    const items = await scene.list()
    expect(ids(items)).toEqual(newestFirst(() => true))
    expect(items[0]).toEqual(published.at(-1))
  })

  it("pages by cursor without a gap or a repetition", async () => {
    for (const limit of [1, 5, 12, 100]) {
      const seen: Array<string> = []
      let cursor = ""
      for (;;) {
        const page = expectStatus(await scene.get(`?limit=${limit}${cursor}`), 200).json
        expect(page.items.length).toBeLessThanOrEqual(limit)
        seen.push(...ids(page.items))
        expect("next_cursor" in page).toBe(page.has_more)
        if (!page.has_more) break
        cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`
      }
      expect(seen).toEqual(newestFirst(() => true))
    }
  })

  it("keeps its place while artifacts come and go", async () => {
    const other = await Scene.open()
    const first = await other.publish("1")
    const second = await other.publish("2")
    const third = await other.publish("3")
    const page = expectStatus(await other.get("?limit=1"), 200).json
    expect(ids(page.items)).toEqual([third.id])
    await other.publish("4")
    expectStatus(await other.remove(second.id), 204)
    const next = expectStatus(await other.get(`?limit=5&cursor=${encodeURIComponent(page.next_cursor)}`), 200).json
    expect(ids(next.items)).toEqual([first.id])
  })

  it("defaults to 20 a page", async () => {
    const other = await Scene.open()
    await Promise.all(Array.from({ length: 21 }, (_, n) => other.publish(String(n))))
    const page = expectStatus(await other.get(""), 200).json
    expect(page.items).toHaveLength(20)
    expect(page.has_more).toBe(true)
  })

  it.each([
    ["run_id=run:1", (_: Wire, n: number) => n % 2 === 1],
    ["step_id=step:2", (_: Wire, n: number) => n % 3 === 2],
    ["run_id=run%3A0&step_id=step%3A0", (_: Wire, n: number) => n % 6 === 0],
    ["mime=text/", (_: Wire, n: number) => n % 3 !== 2],
    ["mime=image%2Fpng", (_: Wire, n: number) => n % 3 === 2],
    ["name_prefix=dir1/", (_: Wire, n: number) => n % 4 === 1],
    ["name_prefix=dir%25", () => false],
    ["name_prefix=dir_", () => false],
    ["run_id=run:none", () => false],
    ["run_id=run:1&name_prefix=dir3/&mime=text", (_: Wire, n: number) => n % 4 === 3 && n % 3 !== 2],
  ] as const)("filters by %s", async (query, keep) => {
    expect(ids(await scene.list(`?limit=100&${query}`))).toEqual(newestFirst(keep))
  })

  it("filters by job_id", async () => {
    const [artifact] = published
    expect(ids(await scene.list(`?job_id=${artifact.job_id}`))).toEqual([artifact.id])
  })

  it.each(["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5", "cursor=x", "cursor=", "state=pending"])(
    "refuses ?%s with 400",
    async (query) => {
      expectRefusal(await scene.get(`?${query}`), 400, "bad_request")
    },
  )

  it("refuses a cursor that was tampered with", async () => {
    const { next_cursor } = expectStatus(await scene.get("?limit=1"), 200).json
    for (const bad of [`${next_cursor}A`, next_cursor.slice(1), next_cursor.toUpperCase()])
      expect([200, 400]).toContain((await scene.get(`?cursor=${encodeURIComponent(bad)}`)).status)
    expectRefusal(await scene.get(`?cursor=${"a".repeat(5000)}`), 400, "bad_request")
  })

  it("shows deleted artifacts to ?state=deleted alone, as tombstones", async () => {
    const other = await Scene.open()
    const gone = await other.publish("gone")
    const kept = await other.publish("kept")
    expectStatus(await other.remove(gone.id), 204)
    expect(ids(await other.list())).toEqual([kept.id])
    const [tombstone, ...more] = await other.list("?state=deleted")
    expect(more).toEqual([])
    expect(tombstone).toMatchObject({ ...gone, deleted_by: other.editor.principal.id })
    expect(Math.abs(Date.parse(tombstone.deleted_at) - Date.now())).toBeLessThan(60_000)
  })

  it("shows nothing shared to a principal without mobius.project.view", async () => {
    const blind = await scene.newKey("service", [permissions.execute])
    expect(await scene.list("", blind.key)).toEqual([])
    expectRefusal(await scene.get(`/${published[0].id}`, blind.key), 404, "not_found")
  })

  it("answers another project's path with 404, and no key with 401", async () => {
    const other = await Scene.open()
    expectRefusal(await api(other.reader.key, "GET", scene.path), 404, "not_found")
    expectRefusal(await api(other.reader.key, "GET", `${scene.path}/${published[0].id}`), 404, "not_found")
    expectRefusal(await api(undefined, "GET", scene.path), 401, "unauthorized")
    expectRefusal(await api(`mbx_${"0".repeat(64)}`, "GET", scene.path), 401, "unauthorized")
    expectRefusal(await api(scene.reader.key, "GET", "/v1/projects/nowhere/artifacts"), 404, "not_found")
  })

  it("exists without the project in the path as well, the project then being the key's", async () => {
    const [artifact] = published
    const page = expectStatus(await api(scene.reader.key, "GET", "/v1/artifacts?limit=100"), 200).json
    expect(ids(page.items)).toEqual(newestFirst(() => true))
    const one = await api(scene.reader.key, "GET", `/v1/artifacts/${artifact.id}`)
    expect(expectStatus(one, 200).json).toEqual(artifact)
    const content = await api(scene.reader.key, "GET", `/v1/artifacts/${artifact.id}/content`)
    expect(expectStatus(content, 200).bytes.toString()).toBe("content 0")
    const signed = await api(scene.reader.key, "POST", `/v1/artifacts/${artifact.id}/signed-url`)
    expect(expectStatus(signed, 200).json).toHaveProperty("url")
    const made = await scene.publish("short path", { path: "/v1/artifacts" })
    expectStatus(await api(scene.editor.key, "DELETE", `/v1/artifacts/${made.id}`), 204)
  })
})

describe("one artifact", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })

  it("is answered as it was published", async () => {
    const artifact = await scene.publish("x", { metadata: { deep: { er: [null, 1.5, "ü"] } } })
    expect(expectStatus(await scene.get(`/${artifact.id}`), 200).json).toEqual(artifact)
  })

  it("is 404 when deleted, and with ?include=deleted the tombstone", async () => {
    const artifact = await scene.publish("x")
    expectStatus(await scene.remove(artifact.id), 204)
    expectRefusal(await scene.get(`/${artifact.id}`), 404, "not_found")
    const tombstone = expectStatus(await scene.get(`/${artifact.id}?include=deleted`), 200).json
    expect(tombstone).toMatchObject({ ...artifact, deleted_by: scene.editor.principal.id })
    expect(Date.parse(tombstone.deleted_at)).toBeGreaterThanOrEqual(Date.parse(artifact.created_at))
  })

  it.each(["art_01ARZ3NDEKTSV4RRFFQ69G5FAV", "art_x", "art_", "nothing", "%00", "art_%27%3B--"])(
    "is 404 for the unknown id %s",
    async (id) => {
      expectRefusal(await scene.get(`/${id}`), 404, "not_found")
      expectRefusal(await scene.get(`/${id}/content`), 404, "not_found")
      expectRefusal(await scene.remove(id), 404, "not_found")
      expectRefusal(await api(scene.reader.key, "POST", `${scene.path}/${id}/signed-url`), 404, "not_found")
    },
  )
})
