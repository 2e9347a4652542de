import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import { inject } from "vitest"
import { MemoryDatabase } from "../../layers/clients/Memory.ts"
import { EventBus } from "../../services/EventBus.ts"
import { Outbox } from "../../services/Outbox.ts"
import { relay, relayRound } from "../../src/actors/EventRelay.ts"
import { CredentialId } from "../../src/domain/Ids.ts"
import { ProjectCaller } from "../../src/domain/Principal.ts"
import * as WakeupProcess from "../../layers/Wakeup/Process.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import { flush, ids, on, owner, project, sequences, settle, stream, upTo, write } from "./relayScene.ts"

/** A relay killed before it marked what it appended. */
const appendUnmarked = relayRound(true)

const reader = new ProjectCaller({
  keyId: CredentialId.make("cred_reader"),
  project,
  principal: owner,
  permissions: ["mobius.project.edit"],
})

if (inject("redisUrl") !== null)
  describe("EventRelay: each event once, in order", () => {
    it.scopedLive("events go out in the order they were written, densely from 1", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(3)
          yield* settle
          const then = yield* write(1_200)
          yield* settle
          expect(yield* ids).toEqual([...first, ...then])
          expect(yield* sequences).toEqual(upTo(1, 1_203))
          expect(yield* (yield* Outbox).lag).toMatchObject({ rows: 0 })
        }),
      ),
    )

    it.scopedLive("four relays at once", () =>
      on(() =>
        Effect.gen(function* () {
          const expected: Array<string> = []
          const writer = Effect.repeatN(
            Effect.zipRight(
              Effect.map(write(7), (more) => expected.push(...more)),
              Effect.sleep(2),
            ),
            60,
          )
          // A turn of the event loop between rounds, as a relay's pause is: idle rounds alone would keep Redis's answers waiting.
          const one = Effect.forever(Effect.zipRight(relayRound(true), Effect.sleep(0)))
          yield* Effect.raceFirst(writer, Effect.all([one, one, one, one], { concurrency: 4 }))
          yield* settle
          expect(yield* ids).toEqual(expected)
          expect(yield* sequences).toEqual(upTo(1, expected.length))
        }),
      ),
    )

    it.scopedLive("a crash between append and mark", () =>
      on(() =>
        Effect.gen(function* () {
          const outbox = yield* Outbox
          const first = yield* write(5)
          yield* appendUnmarked
          expect(yield* ids).toEqual(first)
          expect((yield* outbox.state).lastPublished).toBe(0)
          const then = yield* write(2)
          yield* settle
          expect(yield* ids).toEqual([...first, ...then])
          expect((yield* outbox.state).lastPublished).toBe(7)
        }),
      ),
    )

    it.scopedLive("relays beside it die between append and mark, events come on and on: none is passed over", () =>
      on(() =>
        Effect.gen(function* () {
          const outbox = yield* Outbox
          const expected: Array<string> = []
          const writer = Effect.zipRight(
            Effect.map(write(3), (more) => expected.push(...more)),
            Effect.sleep(1),
          )
          yield* Effect.forkScoped(Effect.forever(writer))
          yield* Effect.forkScoped(relay)
          const followed: Array<string> = []
          let after = 0
          const follower = Effect.gen(function* () {
            const { events, examined } = yield* outbox.readVisible(reader, { after, limit: 100 })
            followed.push(...events.map(({ id }) => id))
            after = examined
            yield* Effect.sleep(1)
          })
          yield* Effect.forkScoped(Effect.forever(follower))
          for (let deaths = 0; deaths < 5; deaths++) {
            yield* appendUnmarked
            const { lastSequence } = yield* outbox.state
            yield* Effect.sleep(10).pipe(
              Effect.repeat({ until: () => after >= lastSequence }),
              Effect.timeout("3 seconds"),
            )
          }
          expect(followed).toEqual(expected.slice(0, followed.length))
        }).pipe(Effect.scoped, Effect.provide(WakeupProcess.layer)),
      ),
    )

    it.scopedLive("a relay that is told to stop leaves nothing unmarked that it appended", () =>
      on(() =>
        Effect.gen(function* () {
          const outbox = yield* Outbox
          const bus = yield* EventBus
          const { ring } = yield* Wakeup
          const first = yield* write(1)
          const running = yield* Effect.fork(relay)
          yield* Effect.sleep(50).pipe(
            Effect.repeat({ until: () => Effect.map(outbox.state, (state) => state.lastPublished === 1) }),
          )
          const then = yield* write(1)
          yield* ring
          yield* Effect.repeat(Effect.yieldNow(), {
            until: () => Effect.map(bus.top, (top) => top === 2),
          })
          yield* Fiber.interrupt(running)
          expect(yield* ids).toEqual([...first, ...then])
          expect((yield* outbox.state).lastPublished).toBe(2)
        }).pipe(Effect.provide(WakeupProcess.layer)),
      ),
    )

    it.scopedLive("a flushed Redis is refilled, without any new event", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(1_100)
          yield* settle
          yield* flush
          yield* settle
          expect(yield* ids).toEqual(first)
          yield* flush
          const then = yield* write(3)
          yield* settle
          expect(yield* ids).toEqual([...first, ...then])
        }),
      ),
    )

    it.scopedLive("flushed again and again under two relays", () =>
      on(() =>
        Effect.gen(function* () {
          const expected: Array<string> = []
          const writer = Effect.repeatN(
            Effect.gen(function* () {
              expected.push(...(yield* write(20)))
              yield* Effect.sleep(5)
              yield* flush
            }),
            20,
          )
          // A turn of the event loop between rounds, as a relay's pause is: idle rounds alone would keep Redis's answers waiting.
          const one = Effect.forever(Effect.zipRight(relayRound(true), Effect.sleep(0)))
          yield* Effect.raceFirst(writer, Effect.all([one, one], { concurrency: 2 }))
          yield* settle
          expect(yield* ids).toEqual(expected)
        }),
      ),
    )

    it.scopedLive("a refill starts where the retained events do, or the stream's length from the end", () =>
      on(
        () =>
          Effect.gen(function* () {
            const state = yield* MemoryDatabase
            yield* write(40)
            yield* settle
            yield* flush
            yield* settle
            expect(yield* sequences).toEqual(upTo(31, 40))
            state.events = state.events.filter(({ sequence }) => (sequence ?? 0) > 36)
            yield* flush
            yield* settle
            expect(yield* sequences).toEqual(upTo(37, 40))
            state.events = []
            yield* flush
            yield* settle
            yield* write(1)
            yield* settle
            expect(yield* sequences).toEqual([41])
          }),
        10,
      ),
    )

    it.scopedLive("events that wait are never skipped by a refill, however many", () =>
      on(
        () =>
          Effect.gen(function* () {
            yield* write(5)
            yield* settle
            yield* flush
            const waiting = yield* write(60)
            yield* settle
            expect((yield* (yield* Outbox).state).lastSequence).toBe(65)
            expect((yield* ids).slice(-10)).toEqual(waiting.slice(-10))
          }),
        10,
      ),
    )

    it.scopedLive("the relay lives through a Redis that is away, and a ring brings an event out at once", () =>
      on((server) =>
        Effect.gen(function* () {
          const { ring } = yield* Wakeup
          const running = yield* Effect.fork(relay)
          const standing = (expected: ReadonlyArray<string>) =>
            ids.pipe(
              Effect.catchAllDefect(() => Effect.succeed([])),
              Effect.repeat({ until: (found) => found.length === expected.length, schedule: Schedule.spaced(20) }),
              Effect.timeout("8 seconds"),
            )
          const first = yield* write(1)
          yield* ring
          yield* standing(first)
          yield* Effect.promise(() => server.kill9())
          const then = yield* write(2)
          yield* Effect.sleep(500)
          yield* Effect.promise(() => server.start())
          yield* standing([...first, ...then])
          expect(yield* ids).toEqual([...first, ...then])
          yield* Fiber.interrupt(running)
        }).pipe(Effect.provide(WakeupProcess.layer)),
      ),
    )

    it.scopedLive("the stream holds exactly what the events' JSON says", () =>
      on(() =>
        Effect.gen(function* () {
          const [id] = yield* write(1)
          yield* settle
          const [only] = yield* stream
          const artifact = only?.payload.source_id
          expect(only).toEqual({
            sequence: 1,
            id,
            payload: {
              event_type: "artifact.created",
              source_kind: "artifact",
              source_id: artifact,
              event: {
                type: "artifact",
                id: artifact,
                name: artifact.slice(4),
                mime: "text/plain",
                size: 1,
                sha256: "ab".repeat(32),
              },
              meta: {
                id,
                event_type: "artifact.created",
                source_kind: "artifact",
                source_id: artifact,
                project: "p",
                artifact_id: artifact,
                content_type: "text/plain",
                visibility: "shared",
                owner: { kind: "agent", id: "worker" },
                occurred_at: "1970-01-01T00:00:00.000Z",
                received_at: expect.stringMatching(/^\d{4}-.*Z$/),
                sequence: 1,
              },
            },
          })
        }),
      ),
    )
  })
