import { describe, expect, it } from "@effect/vitest"
import { Effect, type Layer, type Scope, TestClock } from "effect"
import { MemoryDatabase } from "../../layers/clients/Memory.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { examinedAtMost, Outbox } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { callerOf, freshProject, principal, publish } from "../suites/fixtures.ts"
import { append, openStream, relayed, repeatLast, sceneLayer, type Watch } from "./eventScene.ts"

const newCaller = Effect.flatMap(freshProject(1_000_000_000), (project) => callerOf(project))
const viewerOf = ({ project }: ProjectCaller) => callerOf(project, principal("viewer"), ["mobius.project.view"])
const secret = (caller: ProjectCaller) => publish(caller, { visibility: "private" })

describe("event streams", () => {
  const counts: Watch["counts"] = new Map()
  const delays: Watch["delays"] = new Map()
  const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      counts.clear()
      yield* effect
      return Object.fromEntries(counts)
    })
  const scene = <A, E>(body: Effect.Effect<A, E, Layer.Layer.Success<ReturnType<typeof sceneLayer>> | Scope.Scope>) =>
    Effect.suspend(() => {
      delays.clear()
      return Effect.scoped(Effect.provide(body, sceneLayer({ counts, delays })))
    })

  it.effect("200 that are idle cost one look a second and one check of all keys each 4 s", () =>
    scene(
      Effect.gen(function* () {
        const callers = yield* Effect.replicateEffect(newCaller, 10)
        for (let round = 0; round < 20; round++) for (const caller of callers) yield* openStream(caller, 0)
        yield* TestClock.adjust("10 seconds")
        const asked = yield* counted(TestClock.adjust("20 seconds"))
        expect(asked).toEqual({ news: 20, stillValid: 5 })
      }),
    ),
  )

  it.effect("an event is read once for all streams of its project, and wakes no others", () =>
    scene(
      Effect.gen(function* () {
        const [busy, idle] = [yield* newCaller, yield* newCaller]
        const streams = yield* Effect.replicateEffect(openStream(busy, 0), 20)
        yield* Effect.replicateEffect(openStream(idle, 0), 20)
        yield* TestClock.adjust("10 seconds")
        const asked = yield* counted(
          Effect.gen(function* () {
            yield* publish(busy)
            yield* relayed
            yield* TestClock.adjust("1 second")
          }),
        )
        for (const { events } of streams) expect(events).toEqual([1])
        expect(asked["read"]).toBe(1)
        expect(asked["readVisible"]).toBeUndefined()
      }),
    ),
  )

  it.effect("an event that the bus tells of before it is marked is looked for again, and not by each stream", () =>
    scene(
      Effect.gen(function* () {
        const caller = yield* newCaller
        const streams = yield* Effect.replicateEffect(openStream(caller, 0), 20)
        yield* TestClock.adjust("10 seconds")
        yield* publish(caller)
        const events = yield* append
        const asked = yield* counted(TestClock.adjust("100 millis"))
        expect(asked["news"]).toBeGreaterThanOrEqual(2)
        expect(asked["readVisible"]).toBeUndefined()
        yield* (yield* Outbox).markPublished(events)
        yield* TestClock.adjust("400 millis")
        for (const stream of streams) expect(stream.events).toEqual([1])
      }),
    ),
  )

  it.effect("what a viewer may not see is examined once, in bounded looks, and the position goes past it", () =>
    scene(
      Effect.gen(function* () {
        const creator = yield* newCaller
        const viewer = yield* viewerOf(creator)
        const count = 2 * examinedAtMost + 100
        yield* secret(creator)
        yield* repeatLast(count - 1)
        yield* relayed
        let stream = yield* openStream(viewer, 0)
        yield* TestClock.adjust("10 seconds")
        expect(stream.ids).toEqual([0, examinedAtMost, 2 * examinedAtMost])
        expect(yield* counted(TestClock.adjust("20 seconds"))).not.toHaveProperty("readVisible")
        expect(stream.ids.at(-1)).toBe(count)
        yield* stream.leave
        // Who comes back with the last id begins where it stood.
        const asked = yield* counted(
          Effect.gen(function* () {
            stream = yield* openStream(viewer, stream.ids.at(-1) ?? 0)
            yield* TestClock.adjust("10 seconds")
          }),
        )
        expect(asked["readVisible"]).toBeLessThanOrEqual(2)
        yield* secret(creator)
        yield* publish(creator)
        yield* relayed
        yield* TestClock.adjust("1 second")
        expect(stream.events).toEqual([count + 2])
      }),
    ),
  )

  it.effect(
    "a stream says where it stands at first, and at least every 15 s, also in a busy project it cannot see",
    () =>
      scene(
        Effect.gen(function* () {
          const creator = yield* newCaller
          const stream = yield* openStream(yield* viewerOf(creator), 0)
          for (let second = 0; second < 40; second++) {
            yield* secret(creator)
            yield* relayed
            yield* TestClock.adjust("1 second")
          }
          expect(stream.text).toMatch(/^: connected\nid: 0\n\n: still here\nid: 1\d\n\n: still here\nid: [23]\d\n\n$/)
        }),
      ),
  )

  it.effect("a revocation ends the streams of its key within 5 s and no other, whenever they were opened", () =>
    scene(
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const [dead, live] = [yield* newCaller, yield* newCaller]
        const other = yield* openStream(live, 0)
        for (let tenths = 0; tenths < 50; tenths += 7) {
          const caller = yield* callerOf(dead.project)
          const streams = yield* Effect.replicateEffect(openStream(caller, 0), 5)
          yield* TestClock.adjust(`${tenths * 100} millis`)
          yield* auth.revoke(caller.project, caller.keyId)
          yield* TestClock.adjust("4900 millis")
          expect(streams.map(({ ended }) => ended)).toEqual([true, true, true, true, true])
        }
        expect(other.ended).toBe(false)
      }),
    ),
  )

  it.effect("a stream whose key came from a cache after it was revoked ends within 2 s", () =>
    scene(
      Effect.gen(function* () {
        const caller = yield* newCaller
        yield* openStream(caller, 0)
        yield* TestClock.adjust("5 seconds")
        const late = yield* callerOf(caller.project)
        yield* (yield* Authenticator).revoke(late.project, late.keyId)
        const stream = yield* openStream(late, 0)
        yield* TestClock.adjust("2 seconds")
        expect(stream.ended).toBe(true)
      }),
    ),
  )

  it.effect("after the database went back to an earlier state nothing is missed, and nobody asks in a circle", () =>
    scene(
      Effect.gen(function* () {
        const state = yield* MemoryDatabase
        const caller = yield* newCaller
        yield* publish(caller)
        yield* relayed
        const before = { events: [...state.events], last: state.lastSequence }
        const old = yield* openStream(caller, 0)
        yield* Effect.replicateEffect(publish(caller), 5)
        yield* relayed
        yield* TestClock.adjust("2 seconds")
        expect(old.events).toEqual([1, 2, 3, 4, 5, 6])
        state.events = before.events
        Object.assign(state, { lastSequence: before.last, lastPublished: before.last })
        const fresh = yield* openStream(caller, 1)
        const asked = yield* counted(TestClock.adjust("3 seconds"))
        expect(asked["readVisible"]).toBeLessThan(20)
        // The event takes a place that the stream had in the time that was lost, and another one above it.
        yield* publish(caller)
        const [found] = yield* (yield* Outbox).sequence(1)
        yield* (yield* Outbox).raise(6, [{ id: found?.id ?? "", sequence: 4 }])
        yield* publish(caller)
        const [next] = yield* (yield* Outbox).sequence(1)
        yield* (yield* Outbox).markPublished(next === undefined ? [] : [next])
        yield* TestClock.adjust("2 seconds")
        expect(fresh.events).toEqual([4, 7])
        expect(old.events).toEqual([1, 2, 3, 4, 5, 6, 7])
      }),
    ),
  )

  it.effect("a database that goes back in the middle of a look takes no event from a stream", () =>
    scene(
      Effect.gen(function* () {
        const state = yield* MemoryDatabase
        const caller = yield* newCaller
        const before = { events: [...state.events], last: state.lastSequence }
        const stream = yield* openStream(caller, 0)
        yield* TestClock.adjust("3 seconds")
        delays.set("read", { before: 400 })
        yield* Effect.replicateEffect(publish(caller), 2)
        yield* relayed
        yield* TestClock.adjust("200 millis")
        state.events = before.events
        Object.assign(state, { lastSequence: before.last, lastPublished: before.last })
        yield* TestClock.adjust("2 seconds")
        yield* publish(caller)
        const [found] = yield* (yield* Outbox).sequence(1)
        yield* (yield* Outbox).raise(2, [{ id: found?.id ?? "", sequence: 1 }])
        yield* TestClock.adjust("3 seconds")
        expect(stream.events).toEqual([1])
      }),
    ),
  )

  it.effect("an event between a stream's first read and the first shared look is not missed", () =>
    scene(
      Effect.gen(function* () {
        const caller = yield* newCaller
        delays.set("news", { before: 300 })
        const stream = yield* openStream(caller, 0)
        yield* TestClock.adjust("100 millis")
        yield* publish(caller)
        yield* relayed
        yield* TestClock.adjust("5 seconds")
        expect(stream.events).toEqual([1])
      }),
    ),
  )

  it.effect("a shared look that was under way when a project's first stream opened tells it nothing", () =>
    scene(
      Effect.gen(function* () {
        const [one, other] = [yield* newCaller, yield* newCaller]
        const stream = yield* openStream(one, 0)
        yield* TestClock.adjust("3 seconds")
        yield* publish(other)
        yield* publish(one)
        delays.set("read", { after: 500 })
        yield* relayed
        yield* TestClock.adjust("300 millis")
        expect(stream.events).toEqual([])
        const late = yield* openStream(other, 0)
        yield* TestClock.adjust("2 seconds")
        expect([stream.events, late.events]).toEqual([[2], [1]])
      }),
    ),
  )
})
