import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { MemoryDatabase } from "../../layers/clients/Memory.ts"
import { Outbox } from "../../services/Outbox.ts"
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
            // As a raise in Postgres records it: the stream's top counts as published, though nothing retained is at it.
            const state = yield* MemoryDatabase
            state.lastPublished = 5
            yield* flush
            yield* settle
            const after = yield* write(2)
            yield* settle
            expect(yield* ids).toEqual([...first, ...after])
          }),
        ),
    )
  })
