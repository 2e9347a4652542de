import { expect, layer } from "@effect/vitest"
import { Chunk, Duration, Effect, Fiber, Layer, Stream } from "effect"
import { type BusEntry, EventBus } from "../../services/EventBus.ts"
import { live } from "./fixtures.ts"

export const entry = (sequence: number, id = `sevt_${sequence}`): BusEntry => ({
  sequence,
  id,
  type: "artifact.created",
  project: "p",
  payload: JSON.stringify({ sequence, name: 'naïve "☃"' }),
})
export const entries = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => entry(from + index))

const collect = (bus: EventBus["Type"], after: number, count: number) =>
  bus
    .subscribe(after)
    .pipe(Stream.take(count), Stream.runCollect, Effect.map(Chunk.toReadonlyArray), Effect.timeout("5 seconds"))

/**
 * The contract of services/EventBus, a test a sentence. `fresh` is an empty stream of the given maximal length each
 * time it is built; `shared` is what all of them stand on.
 */
export const eventBusSuite = <R>(
  name: string,
  fresh: (maxLength: number) => Layer.Layer<EventBus, unknown, R>,
  shared: Layer.Layer<R, unknown>,
) =>
  layer(shared, live)(`EventBus: ${name}`, (it) => {
    const on = <A, E>(run: (bus: EventBus["Type"]) => Effect.Effect<A, E>, maxLength = 1_000) =>
      Effect.provide(Effect.flatMap(EventBus, run), Layer.fresh(fresh(maxLength)))

    it.effect("a new stream has top 0, and the sequences of an append become its top", () =>
      on((bus) =>
        Effect.gen(function* () {
          expect(yield* bus.top).toBe(0)
          expect(yield* bus.append(0, entries(1, 3))).toEqual({ _tag: "Appended" })
          expect(yield* bus.top).toBe(3)
          expect(yield* bus.append(3, [entry(4)])).toEqual({ _tag: "Appended" })
          expect(yield* bus.top).toBe(4)
        }),
      ),
    )

    it.effect("an append to another top adds nothing and tells the top", () =>
      on((bus) =>
        Effect.gen(function* () {
          expect(yield* bus.append(4, [entry(5)])).toEqual({ _tag: "Elsewhere", top: 0 })
          yield* bus.append(0, entries(1, 3))
          for (const expected of [0, 2, 4])
            expect(yield* bus.append(expected, [entry(expected + 1, "sevt_other")])).toEqual({
              _tag: "Elsewhere",
              top: 3,
            })
          expect(yield* collect(bus, 0, 3)).toEqual(entries(1, 3))
          expect(yield* bus.idAt(1)).toBe("sevt_1")
        }),
      ),
    )

    it.effect("an append may start above the top, as a refill does", () =>
      on((bus) =>
        Effect.gen(function* () {
          expect(yield* bus.append(0, entries(41, 42))).toEqual({ _tag: "Appended" })
          expect(yield* bus.top).toBe(42)
          expect(yield* bus.idAt(1)).toBeUndefined()
          expect(yield* collect(bus, 0, 2)).toEqual(entries(41, 42))
        }),
      ),
    )

    it.effect("of many appends at once to the same top one is made, whole", () =>
      on((bus) =>
        Effect.gen(function* () {
          const rivals = Array.from({ length: 16 }, (_, rival) => [
            entry(1, `sevt_${rival}a`),
            entry(2, `sevt_${rival}b`),
          ])
          const ends = yield* Effect.forEach(rivals, (both) => bus.append(0, both), { concurrency: 16 })
          expect(ends.filter(({ _tag }) => _tag === "Appended")).toHaveLength(1)
          expect(ends.filter((end) => end._tag === "Elsewhere").every(({ top }) => top === 2)).toBe(true)
          const winner = ends.findIndex(({ _tag }) => _tag === "Appended")
          expect([yield* bus.idAt(1), yield* bus.idAt(2)]).toEqual([`sevt_${winner}a`, `sevt_${winner}b`])
        }),
      ),
    )

    it.effect("standing tells what is in the stream from a sequence on, up to its limit", () =>
      on((bus) =>
        Effect.gen(function* () {
          expect(yield* bus.standing(1, 10)).toEqual([])
          yield* bus.append(0, entries(1, 3))
          yield* bus.append(3, entries(11, 14))
          const told = (from: number, limit: number) =>
            Effect.map(bus.standing(from, limit), (found) => found.map(({ id, sequence }) => [sequence, id]))
          expect(yield* told(2, 3)).toEqual([
            [2, "sevt_2"],
            [3, "sevt_3"],
            [11, "sevt_11"],
          ])
          expect(yield* told(4, 10)).toHaveLength(4)
          expect(yield* told(15, 10)).toEqual([])
        }),
      ),
    )

    it.effect("idAt tells the event at a sequence, and nothing where none is", () =>
      on((bus) =>
        Effect.gen(function* () {
          yield* bus.append(0, entries(1, 2))
          expect([yield* bus.idAt(1), yield* bus.idAt(2), yield* bus.idAt(3)]).toEqual(["sevt_1", "sevt_2", undefined])
        }),
      ),
    )

    it.effect("the stream is trimmed to about its length; its top survives", () =>
      on(
        (bus) =>
          Effect.gen(function* () {
            expect(bus.maxLength).toBe(50)
            for (let last = 0; last < 1_000; last += 250) yield* bus.append(last, entries(last + 1, last + 250))
            expect(yield* bus.top).toBe(1_000)
            expect(yield* bus.idAt(1)).toBeUndefined()
            expect(yield* bus.idAt(700)).toBeUndefined()
            expect(yield* bus.idAt(951)).toBe("sevt_951")
            const kept = yield* collect(bus, 950, 50)
            expect(kept).toEqual(entries(951, 1_000))
          }),
        50,
      ),
    )

    it.effect("a subscriber sees what is there, then what comes, in order, each once", () =>
      on((bus) =>
        Effect.gen(function* () {
          yield* bus.append(0, entries(1, 250))
          const [all, late] = [yield* Effect.fork(collect(bus, 0, 300)), yield* Effect.fork(collect(bus, 240, 60))]
          yield* Effect.sleep(50)
          for (let last = 250; last < 300; last += 5) {
            yield* bus.append(last, entries(last + 1, last + 5))
            yield* Effect.sleep(3)
          }
          expect(yield* Fiber.join(all)).toEqual(entries(1, 300))
          expect(yield* Fiber.join(late)).toEqual(entries(241, 300))
        }),
      ),
    )

    it.effect("a subscriber of a stream that is not there yet gets its first entries at once", () =>
      on((bus) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(collect(bus, 0, 1))
          yield* Effect.sleep(300)
          const [took] = yield* Effect.timed(Effect.zipRight(bus.append(0, [entry(1)]), Fiber.join(fiber)))
          expect(Duration.toMillis(took)).toBeLessThan(500)
          expect(yield* Fiber.join(fiber)).toEqual([entry(1)])
        }),
      ),
    )

    it.effect("ping answers", () => on(({ ping }) => ping))
  })
