import { afterEach, describe, expect, it } from "vitest"
import { EventStream, eventsOf, sequenceOf } from "./support/events.ts"
import { field, filePart } from "./support/multipart.ts"
import { permissions, Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, sleep, until } from "./support/wire.ts"

describe("GET /v1/projects/{project}/events", () => {
  const open: Array<EventStream> = []
  afterEach(() => {
    for (const stream of open.splice(0)) stream.close()
  })
  const listen = async (scene: Scene, key: string, query = "", headers: Record<string, string> = {}) => {
    const stream = await EventStream.open(scene.handle, key, query, headers)
    open.push(stream)
    return stream
  }
  const namesOf = (stream: EventStream) => stream.events.map(({ data }) => data.event.name)
  const publishAll = async (scene: Scene, names: ReadonlyArray<string>) => {
    for (const name of names) await scene.publish(name, { name })
    return (await eventsOf(scene.handle, names.length)).map(sequenceOf)
  }

  it("brings new events live, with their sequence as id and the whole record as data", async () => {
    const scene = await Scene.open()
    await publishAll(scene, ["before"])
    const stream = await listen(scene, scene.reader.key)
    const artifact = await scene.publish("live", { name: "live" })
    await stream.atLeast(1)
    expectStatus(await scene.remove(artifact.id), 204)
    await stream.atLeast(2)
    const [, created, deleted] = await eventsOf(scene.handle, 3)
    expect(stream.events).toEqual([
      { id: String(sequenceOf(created)), data: created },
      { id: String(sequenceOf(deleted)), data: deleted },
    ])
  })

  it("brings events of its project only", async () => {
    const [scene, other] = await Promise.all([Scene.open(), Scene.open()])
    const stream = await listen(scene, scene.reader.key)
    await other.publish("theirs", { name: "theirs" })
    await eventsOf(other.handle, 1)
    await scene.publish("ours", { name: "ours" })
    await stream.atLeast(1)
    expect(namesOf(stream)).toEqual(["ours"])
  })

  it("resumes after Last-Event-ID without a gap and without a repetition, and goes on live", async () => {
    const scene = await Scene.open()
    const [first] = await publishAll(scene, ["a", "b", "c"])
    const stream = await listen(scene, scene.reader.key, "", { "Last-Event-ID": String(first) })
    await stream.atLeast(2)
    await scene.publish("d", { name: "d" })
    await stream.atLeast(3)
    expect(namesOf(stream)).toEqual(["b", "c", "d"])
  })

  it("resumes after ?after=, the larger of both", async () => {
    const scene = await Scene.open()
    const [a, b, c] = await publishAll(scene, ["a", "b", "c"])
    const cases = [
      [a, undefined, ["b", "c", "d"]],
      [a, b, ["c", "d"]],
      [b, a, ["c", "d"]],
      [c, a, ["d"]],
    ] as const
    const streams = await Promise.all(
      cases.map(([after, last]) =>
        listen(scene, scene.reader.key, `?after=${after}`, last === undefined ? {} : { "Last-Event-ID": String(last) }),
      ),
    )
    await scene.publish("d", { name: "d" })
    for (const [index, [, , expected]] of cases.entries()) {
      const stream = streams[index]
      await stream?.atLeast(expected.length)
      expect(stream && namesOf(stream)).toEqual(expected)
    }
  })

  it("says at once where it stands, so that who comes back with that loses nothing", async () => {
    const scene = await Scene.open()
    const [first, second] = await publishAll(scene, ["a", "b"])
    const resumed = await listen(scene, scene.reader.key, `?after=${first}`)
    const fresh = await listen(scene, scene.reader.key)
    await until(
      async () => [...resumed.positions, ...fresh.positions],
      (positions) => positions.length >= 2,
    )
    expect(resumed.positions[0]).toBe(first)
    expect(fresh.positions[0]).toBeGreaterThanOrEqual(second ?? Infinity)
    fresh.close()
    await scene.publish("c", { name: "c" })
    await eventsOf(scene.handle, 3)
    const again = await listen(scene, scene.reader.key, "", { "Last-Event-ID": String(fresh.positions[0]) })
    await again.atLeast(1)
    expect(namesOf(again)).toEqual(["c"])
  })

  it("brings private artifacts to their owner, their creator and mobius.project.edit alone", async () => {
    const scene = await Scene.open()
    const owner = await scene.newKey("user", [permissions.view], scene.owner.id)
    const hidden = await scene.claim({ visibility: "private" })
    const keys = [owner.key, scene.worker.key, scene.editor.key, scene.reader.key]
    const [owners, creators, editors, others] = await Promise.all(keys.map((key) => listen(scene, key)))
    const artifact = await scene.publish("hidden", { name: "hidden", lease: hidden.token })
    expectStatus(await scene.remove(artifact.id), 204)
    await scene.publish("shown", { name: "shown" })
    for (const stream of [owners, creators, editors]) {
      await stream?.atLeast(3)
      expect(stream && namesOf(stream)).toEqual(["hidden", "hidden", "shown"])
    }
    await others?.atLeast(1)
    expect(others && namesOf(others)).toEqual(["shown"])
  })

  it("hides private artifacts from a resumed stream as well", async () => {
    const scene = await Scene.open()
    const hidden = await scene.claim({ visibility: "private" })
    await scene.publish("shown", { name: "first" })
    await scene.publish("hidden", { name: "hidden", lease: hidden.token })
    await scene.publish("shown", { name: "second" })
    const [first] = await eventsOf(scene.handle, 3)
    const stream = await listen(scene, scene.reader.key, `?after=${sequenceOf(first) - 1}`)
    await stream.atLeast(2)
    expect(namesOf(stream)).toEqual(["first", "second"])
  })

  it("brings nothing of a failed upload", async () => {
    const scene = await Scene.open()
    const stream = await listen(scene, scene.reader.key)
    const parts = [field("name", "failed"), field("size_bytes", "9"), filePart("x")]
    expectRefusal(await scene.postParts(parts), 400, "size_mismatch")
    await scene.publish("good", { name: "good" })
    await stream.atLeast(1)
    expect(namesOf(stream)).toEqual(["good"])
  })

  it("ends within 5 seconds of the key's revocation, and says nothing after it", async () => {
    const scene = await Scene.open()
    const key = await scene.newKey("user", [permissions.view])
    const stream = await listen(scene, key.key)
    const other = await listen(scene, scene.reader.key)
    await sleep(700)
    expectStatus(await scene.revoke(key), 204)
    await until(
      async () => stream.closed,
      (closed) => closed,
      5_700,
    )
    expect(other.closed).toBe(false)
    await scene.publish("later", { name: "later" })
    await other.atLeast(1)
    expect(stream.events).toEqual([])
    await expect(EventStream.open(scene.handle, key.key)).rejects.toThrow("401")
  })

  it("stays open and quiet while nothing happens", async () => {
    const scene = await Scene.open()
    const stream = await listen(scene, scene.reader.key)
    await sleep(6_500)
    expect(stream.closed).toBe(false)
    await scene.publish("at last", { name: "at last" })
    await stream.atLeast(1)
  })

  it("refuses a position that is no sequence with 400, no key with 401 and another project with 404", async () => {
    const [scene, other] = await Promise.all([Scene.open(), Scene.open()])
    const path = `/v1/projects/${scene.handle}/events`
    expectRefusal(await api(scene.reader.key, "GET", `${path}?after=x`), 400, "bad_request")
    expectRefusal(await api(scene.reader.key, "GET", `${path}?after=-1`), 400, "bad_request")
    const headers = { "Last-Event-ID": "x" }
    expectRefusal(await api(scene.reader.key, "GET", path, undefined, headers), 400, "bad_request")
    expectRefusal(await api(undefined, "GET", path), 401, "unauthorized")
    expectRefusal(await api(other.reader.key, "GET", path), 404, "not_found")
  })
})
