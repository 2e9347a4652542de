import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Random } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { callerOf, freshProject, principal, publish } from "../suites/fixtures.ts"
import { append, openStream, sceneLayer, type Watch } from "./eventScene.ts"

const newCaller = Effect.flatMap(freshProject(1_000_000_000), (project) => callerOf(project))
const viewerOf = ({ project }: ProjectCaller) => callerOf(project, principal("viewer"), ["mobius.project.view"])
const secret = (caller: ProjectCaller) => publish(caller, { visibility: "private" })

describe("event streams at any timing", () => {
  const counts: Watch["counts"] = new Map()
  const delays: Watch["delays"] = new Map()
  const scene = <A, E>(body: Effect.Effect<A, E, any>) =>
    Effect.suspend(() => {
      delays.clear()
      return Effect.scoped(Effect.provide(body, sceneLayer({ counts, delays })))
    }) as Effect.Effect<A, E>

  it.live(
    "history first, then live: streams that come, go and come back at any moment miss nothing and get nothing twice",
    () =>
      scene(
        Effect.gen(function* () {
          const outbox = yield* Outbox
          const creators = yield* Effect.replicateEffect(newCaller, 3)
          const viewers = yield* Effect.forEach(creators, viewerOf)
          const seen = new Map(viewers.map(({ project }) => [project, [] as Array<number>]))
          let done = false
          delays
            .set("news", { before: 3, after: 8 })
            .set("read", { after: 5 })
            .set("readVisible", { before: 4, after: 9 })
          const pause = (most: number) =>
            Effect.flatMap(Random.nextIntBetween(0, most), (millis) => Effect.sleep(millis))
          const write = Effect.gen(function* () {
            const creator = creators[yield* Random.nextIntBetween(0, 3)]
            const burst = (yield* Random.nextIntBetween(0, 150)) === 0 ? 700 : yield* Random.nextIntBetween(1, 6)
            if (creator !== undefined)
              yield* Effect.replicateEffect((yield* Random.nextBoolean) ? publish(creator) : secret(creator), burst)
            yield* pause(4)
          })
          // Marks come late, and not in order: two relays that die now and then.
          const relay = Effect.gen(function* () {
            const events = yield* append
            for (const event of events)
              if (event.artifact.visibility === "shared") seen.get(event.artifact.project)?.push(event.sequence)
            const mark = (some: typeof events) => Effect.zipRight(pause(30), outbox.markPublished(some))
            yield* Effect.forkScoped(mark(events.filter(({ sequence }) => sequence % 2 === 0)))
            yield* Effect.forkScoped(mark(events.filter(({ sequence }) => sequence % 2 === 1)))
          }).pipe(Effect.uninterruptible, Effect.zipLeft(pause(15)))
          /** Every other one is slow, and lags behind what streams share. */
          const reader = (viewer: ProjectCaller, index: number) =>
            Effect.gen(function* () {
              const got: Array<number> = []
              for (let from = 0; ;) {
                const last = done
                const slow = index % 2 === 0 ? 0 : yield* Random.nextIntBetween(1, 80)
                const stream = yield* openStream(viewer, from, () => slow)
                const expected = seen.get(viewer.project)?.length ?? 0
                yield* last
                  ? Effect.sleep("100 millis").pipe(
                      Effect.repeat({ until: () => got.length + stream.events.length >= expected }),
                      Effect.timeoutOption("15 seconds"),
                    )
                  : pause(150)
                yield* stream.leave
                got.push(...stream.events)
                from = stream.ids.at(-1) ?? from
                if (last) return { got, project: viewer.project }
              }
            })
          const writing = yield* Effect.forkScoped(Effect.forever(write))
          const relaying = yield* Effect.forkScoped(Effect.forever(relay))
          const reading = yield* Effect.forkScoped(
            Effect.forEach([...viewers, ...viewers, ...viewers, ...viewers], reader, { concurrency: "unbounded" }),
          )
          yield* Effect.sleep("2 seconds")
          yield* Effect.sleep("100 millis").pipe(
            Effect.repeat({ until: () => [...seen.values()].flat().length >= 60 }),
            Effect.timeoutOption("20 seconds"),
          )
          yield* Fiber.interrupt(writing)
          yield* Effect.sleep("100 millis")
          yield* Fiber.interrupt(relaying)
          done = true
          for (const { got, project } of yield* Fiber.join(reading)) expect(got).toEqual(seen.get(project))
        }),
      ),
    60_000,
  )
})
