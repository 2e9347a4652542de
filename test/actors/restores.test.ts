import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { MemoryDatabase } from "../../layers/clients/Memory.ts"
import { Outbox } from "../../services/Outbox.ts"
import { relayRound } from "../../src/actors/EventRelay.ts"
import { answering, backup, flush, ids, on, sequences, settle, upTo, write } from "./relayScene.ts"

if (inject("redisUrl") !== null)
  describe("EventRelay: stores put back to an older state", () => {
    it.scopedLive("an older snapshot of Redis gets its missing tail", () =>
      on((server) =>
        Effect.gen(function* () {
          const first = yield* write(4)
          yield* settle
          const snapshot = yield* Effect.promise(() => server.saveSnapshot())
          const then = yield* write(6)
          yield* settle
          yield* Effect.promise(() => server.restoreSnapshot(snapshot))
          expect(yield* answering).toBe(4)
          yield* settle
          expect(yield* ids).toEqual([...first, ...then])
          expect(yield* sequences).toEqual(upTo(1, 10))
        }),
      ),
    )

    it.scopedLive("a restored Postgres raises its sequence above the stream and takes nothing there for its own", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(6)
          yield* settle
          const restore = yield* backup
          const lost = yield* write(4)
          yield* settle
          yield* restore
          const after = yield* write(2)
          yield* settle
          expect(yield* ids).toEqual([...first, ...lost, ...after])
          const [last] = (yield* sequences).slice(-1)
          expect((yield* (yield* Outbox).state).lastSequence).toBe(last)
        }),
      ),
    )

    it.scopedLive(
      "a restored Postgres is noticed without new events, and more new events than the stream is ahead are all new",
      () =>
        on(() =>
          Effect.gen(function* () {
            const first = yield* write(2)
            yield* settle
            const restore = yield* backup
            const lost = yield* write(3)
            yield* settle
            yield* restore
            yield* settle
            expect((yield* (yield* Outbox).state).lastSequence).toBe(5)
            yield* restore
            const after = yield* write(9)
            yield* settle
            expect(yield* ids).toEqual([...first, ...lost, ...after])
          }),
        ),
    )

    it.scopedLive("events a restored Postgres had numbered but not marked are not appended again", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(2)
          yield* settle
          const unmarked = yield* write(2)
          yield* (yield* Outbox).sequence(10)
          const restore = yield* backup
          const lost = yield* write(3)
          yield* settle
          yield* restore
          const after = yield* write(1)
          yield* settle
          expect(yield* ids).toEqual([...first, ...unmarked, ...lost, ...after])
        }),
      ),
    )

    /** A database that lost its tail in the order of the log, and not of the positions: `lost` is gone, later ones stay. */
    const withoutTail = (lost: ReadonlyArray<string>) =>
      Effect.map(MemoryDatabase, (state) => {
        state.events = state.events.filter(({ id }) => !lost.includes(id))
      })

    it.scopedLive("events that a failed-over Postgres has not numbered yet keep their places in the stream", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(1)
          yield* settle
          const tail = yield* write(5)
          const restore = yield* backup
          yield* settle
          yield* restore
          // The replica's log ended between commits whose positions are the other way round.
          yield* withoutTail([tail[0], tail[3]].map(String))
          const after = yield* write(2)
          yield* settle
          expect(yield* ids).toEqual([...first, ...tail, ...after])
          expect(yield* sequences).toEqual(upTo(1, 8))
          const held = yield* (yield* Outbox).read({ from: 1, limit: 100 })
          expect(held.map(({ sequence }) => sequence)).toEqual([1, 3, 4, 6, 7, 8])
        }),
      ),
    )

    it.scopedLive("the same with more of them than a round moves, under relays at once", () =>
      on(() =>
        Effect.gen(function* () {
          const first = yield* write(3)
          yield* settle
          const tail = yield* write(700)
          const restore = yield* backup
          yield* settle
          yield* restore
          yield* withoutTail([tail[0], tail[600]].map(String))
          const after = yield* write(300)
          const one = Effect.replicateEffect(relayRound(false), 3)
          yield* Effect.all([one, one], { concurrency: 2 })
          yield* settle
          expect(yield* ids).toEqual([...first, ...tail, ...after])
        }),
      ),
    )

    it.scopedLive(
      "restored Postgres and flushed Redis: what Postgres holds stands in the stream, and the relay rests",
      () =>
        on(() =>
          Effect.gen(function* () {
            const first = yield* write(2)
            yield* settle
            const restore = yield* backup
            yield* write(3)
            yield* settle
            yield* restore
            yield* settle
            // The stream's top counts as published now, though nothing retained is at it.
            expect((yield* (yield* Outbox).state).lastPublished).toBe(5)
            yield* flush
            yield* settle
            const after = yield* write(2)
            yield* settle
            expect(yield* ids).toEqual([...first, ...after])
          }),
        ),
    )
  })
