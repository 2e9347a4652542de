import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Ids } from "../../services/Ids.ts"
import { Outbox } from "../../services/Outbox.ts"
import { publish, type SqlServices } from "./fixtures.ts"
import { eventsFrom, newCaller, publishMany, sequences, settle } from "./outboxSteps.ts"

/** What the contract says of a stream that is ahead of its database. */
export const outboxRaises = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("raise numbers unpublished events anew above the top, in order, and leaves published ones", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      yield* settle
      const caller = yield* newCaller
      yield* publishMany(caller, 1)
      const { lastSequence: last } = yield* settle
      const ids = yield* publishMany(caller, 2)
      yield* outbox.sequence(100)
      const stale = yield* eventsFrom(last + 1)
      const top = last + 50
      yield* outbox.raise(top, [])
      yield* outbox.sequence(100)
      const events = yield* eventsFrom(last + 1)
      expect(sequences(events)).toEqual([top + 1, top + 2])
      expect(events.map(({ artifact }) => artifact.id)).toEqual(ids)
      expect(sequences(yield* eventsFrom(last))[0]).toBe(last)
      expect((yield* outbox.state).lastSequence).toBe(top + 2)
      yield* outbox.markPublished(stale)
      expect(yield* eventsFrom(last + 1, true)).toHaveLength(2)
      yield* publishMany(caller, 1)
      yield* outbox.sequence(100)
      expect((yield* outbox.state).lastSequence).toBe(top + 3)
    }),
  )
  it.effect("raise below the last sequence never lowers it", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const { lastSequence } = yield* settle
      yield* outbox.raise(1, [])
      expect((yield* outbox.state).lastSequence).toBe(lastSequence)
    }),
  )
  it.effect("raise lets what stands in the stream take its place, numbered here or not, and the rest goes above", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const caller = yield* newCaller
      yield* publishMany(caller, 1)
      const { lastSequence: last } = yield* settle
      yield* publishMany(caller, 3)
      const [first, second, third] = yield* outbox.sequence(100)
      const unnumbered = yield* (yield* Ids).event
      yield* publish(caller, { eventId: unnumbered })
      const newest = yield* (yield* Ids).event
      yield* publish(caller, { eventId: newest })
      if (!first || !second || !third) throw new Error("three events were written")
      const top = last + 9
      // The first stands nowhere. The second has the place that the first has here.
      const standing = [
        { id: second.id, sequence: last + 1 },
        { id: "sevt_unknown", sequence: last + 2 },
        { id: unnumbered, sequence: last + 5 },
        { id: third.id, sequence: last + 7 },
      ]
      const unpublished = outbox.unpublished(standing.map(({ id }) => id))
      expect((yield* unpublished).toSorted()).toEqual([second.id, third.id, unnumbered].toSorted())
      yield* outbox.raise(top, standing)
      yield* outbox.raise(top, standing)
      expect(yield* unpublished).toEqual([])
      expect((yield* eventsFrom(last + 1)).map(({ id, sequence }) => [id, sequence])).toEqual([
        [second.id, last + 1],
        [unnumbered, last + 5],
        [third.id, last + 7],
        [first.id, top + 1],
      ])
      expect((yield* eventsFrom(1, true)).map(({ id }) => id)).toEqual([first.id])
      expect(yield* outbox.state).toMatchObject({ lastSequence: top + 1, lastPublished: top })
      expect((yield* outbox.sequence(100)).map(({ id, sequence }) => [id, sequence])).toEqual([[newest, top + 2]])
      yield* settle
    }),
  )
  it.effect("raise never gives away the place of a published event, nor one above the top", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const caller = yield* newCaller
      yield* publishMany(caller, 1)
      const { lastSequence: last } = yield* settle
      yield* publishMany(caller, 2)
      const [first, second] = yield* outbox.sequence(100)
      if (!first || !second) throw new Error("two events were written")
      yield* outbox.raise(last + 3, [
        { id: first.id, sequence: last },
        { id: second.id, sequence: last + 9 },
      ])
      expect((yield* eventsFrom(last, true)).map(({ id, sequence }) => [id, sequence])).toEqual([
        [first.id, last + 4],
        [second.id, last + 5],
      ])
      yield* settle
    }),
  )
}
