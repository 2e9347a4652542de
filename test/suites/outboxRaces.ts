import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import type { SqlServices } from "./fixtures.ts"
import { eventsFrom, newCaller, publishMany, sequences, settle } from "./outboxSteps.ts"

/** What the contract says of callers that meet. */
export const outboxRaces = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("callers of sequence at once give each event one number, dense", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const { lastSequence: last } = yield* settle
      const ids = yield* publishMany(yield* newCaller, 12)
      const given = yield* Effect.all(
        Array.from({ length: 4 }, () => outbox.sequence(5)),
        { concurrency: "unbounded" },
      )
      yield* outbox.sequence(100)
      expect(given.flat().length).toBeLessThanOrEqual(12)
      const events = yield* eventsFrom(last + 1)
      expect(sequences(events)).toEqual(Array.from({ length: 12 }, (_, index) => last + 1 + index))
      expect(events.map(({ artifact }) => artifact.id)).toEqual(ids)
    }),
  )
  it.effect("commits while sequencing lose no event", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const { lastSequence: last } = yield* settle
      const caller = yield* newCaller
      const [ids] = yield* Effect.all(
        [
          Effect.all(
            Array.from({ length: 10 }, () => publishMany(caller, 1)),
            { concurrency: 5 },
          ),
          Effect.replicateEffect(outbox.sequence(3), 10),
        ],
        { concurrency: "unbounded" },
      )
      yield* outbox.sequence(100)
      const events = yield* eventsFrom(last + 1)
      expect(sequences(events)).toEqual(Array.from({ length: 10 }, (_, index) => last + 1 + index))
      expect(events.map(({ artifact }) => artifact.id).sort()).toEqual(ids.flat().sort())
    }),
  )
}
