import { expect, layer } from "@effect/vitest"
import { Effect, Either, Runtime } from "effect"
import * as fc from "fast-check"
import type { MemoryDatabase } from "../../layers/clients/Memory.ts"
import type { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import { freshProject, live, refusal, unknownHandle } from "./fixtures.ts"
import { quotaBooks } from "./quotaBooks.ts"
import { followsModel, steps } from "./quotaModel.ts"
import { ask, books, pendingUpload, type QuotaLayer, usage } from "./quotaScene.ts"

/** Loses one project's counters, as a flush of their store would. */
export type Flush = (project: ProjectHandle) => Effect.Effect<void>

/** The contract of services/QuotaCounters, a test a sentence; `flush` where counters can be lost under a running process. */
export const quotaCountersSuite = (name: string, subject: QuotaLayer, flush?: Flush) =>
  layer(subject, live)(`QuotaCounters: ${name}`, (it) => {
    it.effect("reserve makes at least need and, while there is room, up to want", () =>
      Effect.gen(function* () {
        const project = yield* freshProject(100)
        expect(yield* ask(project, "a", 10, 40)).toBe(40)
        expect(yield* ask(project, "b", 50, 90)).toBe(60)
        expect(yield* usage(project)).toEqual({ usedBytes: 0, reservedBytes: 100, limitBytes: 100 })
      }),
    )

    it.effect("a refusal tells the figures and changes nothing", () =>
      Effect.gen(function* () {
        const project = yield* freshProject(100)
        yield* ask(project, "a", 70)
        expect(yield* Effect.flip(ask(project, "b", 31, 90))).toMatchObject({
          _tag: "QuotaExceeded",
          limitBytes: 100,
          usedBytes: 0,
          reservedBytes: 70,
          requestedBytes: 31,
        })
        expect(yield* Effect.flip(ask(project, "a", 101))).toMatchObject({ reservedBytes: 70, requestedBytes: 101 })
        expect((yield* usage(project)).reservedBytes).toBe(70)
        expect(yield* ask(project, "b", 30)).toBe(30)
      }),
    )

    it.effect("reserving is absolute per upload, idempotent, and never shrinks", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        expect(yield* ask(project, "a", 30)).toBe(30)
        expect(yield* ask(project, "a", 30)).toBe(30)
        expect(yield* ask(project, "a", 10)).toBe(30)
        expect(yield* counters.extend(project, "a", { need: 50, want: 60 })).toBe(60)
        expect(yield* counters.extend(project, "a", { need: 61, want: 500 })).toBe(100)
        expect((yield* usage(project)).reservedBytes).toBe(100)
      }),
    )

    it.effect("an extension of a reservation that was superseded or given back is ReservationLost and makes none", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* ask(project, "first", 30)
        yield* counters.reserve(project, "second", { need: 20, want: 20, superseded: "first" })
        const grow = (upload: string) => counters.extend(project, upload, { need: 40, want: 40 })
        expect(yield* Effect.flip(grow("first"))).toMatchObject({ _tag: "ReservationLost" })
        expect((yield* usage(project)).reservedBytes).toBe(20)
        yield* counters.release(project, "second")
        expect(yield* Effect.flip(grow("second"))).toMatchObject({ _tag: "ReservationLost" })
        expect((yield* usage(project)).reservedBytes).toBe(0)
      }),
    )

    it.effect("an empty file reserves nothing, fits a full project and is given back", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* counters.refund(project, yield* books(project, { used: 100 }))
        expect(yield* ask(project, "a", 0)).toBe(0)
        expect(yield* refusal(ask(project, "b", 1))).toBe("QuotaExceeded")
        yield* counters.release(project, "a")
        expect(yield* usage(project)).toEqual({ usedBytes: 100, reservedBytes: 0, limitBytes: 100 })
      }),
    )

    it.effect("used + reserved never passes the limit while 64 uploads grow at once", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(1_000)
        const over: Array<number> = []
        const sample = Effect.map(usage(project), ({ limitBytes, reservedBytes, usedBytes }) => {
          if (usedBytes + reservedBytes > limitBytes) over.push(usedBytes + reservedBytes)
        })
        const grow = (index: number) =>
          Effect.gen(function* () {
            let bytes = 0
            while (bytes < 100)
              bytes = yield* ask(project, `u${index}`, bytes + 1, bytes + 25).pipe(Effect.zipLeft(sample))
            return bytes
          }).pipe(
            Effect.tapError(() => counters.release(project, `u${index}`)),
            Effect.either,
          )
        const ends = yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => index),
          grow,
          { concurrency: 64 },
        )
        expect(over).toEqual([])
        const whole = ends.filter(Either.isRight)
        expect(ends.filter(Either.isLeft).every(({ left }) => left._tag === "QuotaExceeded")).toBe(true)
        const left = yield* usage(project)
        expect(left.reservedBytes).toBe(whole.reduce((sum, { right }) => sum + right, 0))
        expect(left.reservedBytes).toBeLessThanOrEqual(1_000)
      }),
    )

    it.effect("64 uploads of one tenth each: exactly ten are admitted", () =>
      Effect.gen(function* () {
        const project = yield* freshProject(1_000)
        const ends = yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => index),
          (index) => Effect.either(ask(project, `u${index}`, 100)),
          { concurrency: 64 },
        )
        expect(ends.filter(Either.isRight)).toHaveLength(10)
        expect((yield* usage(project)).reservedBytes).toBe(1_000)
      }),
    )

    it.effect("commit ends the reservation and takes the books over in one step, once", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* ask(project, "a", 60)
        const after = yield* books(project, { used: 55 })
        yield* counters.commit(project, "a", after)
        yield* counters.commit(project, "a", after)
        expect(yield* usage(project)).toEqual({ usedBytes: 55, reservedBytes: 0, limitBytes: 100 })
        expect(yield* ask(project, "b", 45)).toBe(45)
      }),
    )

    it.effect("release gives the room back at once, and again does nothing", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* ask(project, "a", 60)
        yield* ask(project, "b", 40)
        yield* counters.release(project, "a")
        yield* counters.release(project, "a")
        yield* counters.release(project, "never")
        expect((yield* usage(project)).reservedBytes).toBe(40)
        expect(yield* ask(project, "c", 60)).toBe(60)
      }),
    )

    it.effect("reserving in the place of a superseded upload ends that one's reservation in the same step", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* ask(project, "first", 60)
        const retry = (id: string, need: number, superseded: string) =>
          counters.reserve(project, id, { need, want: need, superseded })
        expect(yield* retry("second", 60, "first")).toBe(60)
        expect(yield* retry("second", 60, "first")).toBe(60)
        expect((yield* usage(project)).reservedBytes).toBe(60)
        expect(yield* Effect.flip(retry("third", 101, "second"))).toMatchObject({ reservedBytes: 0 })
        expect((yield* usage(project)).reservedBytes).toBe(0)
        expect(yield* retry("fourth", 100, "never")).toBe(100)
      }),
    )

    it.effect("renew brings a lost reservation back if it fits, else leaves it to the commit", () =>
      Effect.gen(function* () {
        const counters = yield* QuotaCounters
        const project = yield* freshProject(100)
        yield* counters.renew(project, "a", 60)
        yield* counters.renew(project, "b", 60)
        expect((yield* usage(project)).reservedBytes).toBe(60)
        yield* counters.renew(project, "a", 10)
        expect((yield* usage(project)).reservedBytes).toBe(60)
      }),
    )

    if (flush !== undefined) {
      it.effect("flushed counters are rebuilt before an operation is answered, live reservations included", () =>
        Effect.gen(function* () {
          const counters = yield* QuotaCounters
          const project = yield* freshProject(100)
          yield* counters.refund(project, yield* books(project, { used: 30 }))
          const id = yield* pendingUpload(project, 40)
          yield* ask(project, id, 40)
          const operations = [
            Effect.asVoid(ask(project, id, 40)),
            counters.renew(project, id, 40),
            counters.release(project, "never"),
            counters.refund(project, yield* books(project, { used: 30 })),
            Effect.asVoid(counters.rebuild(project)),
            Effect.asVoid(usage(project)),
          ]
          for (const operation of operations) {
            yield* flush(project)
            yield* operation
            expect(yield* usage(project)).toEqual({ usedBytes: 30, reservedBytes: 40, limitBytes: 100 })
          }
          yield* flush(project)
          expect(yield* refusal(ask(project, "other", 31))).toBe("QuotaExceeded")
          expect(yield* ask(project, "other", 30)).toBe(30)
        }),
      )

      it.effect("many rebuilds and reserves at once over flushed counters oversell nothing", () =>
        Effect.gen(function* () {
          const counters = yield* QuotaCounters
          const project = yield* freshProject(1_000)
          yield* ask(project, "first", 100)
          yield* flush(project)
          const ends = yield* Effect.forEach(
            Array.from({ length: 40 }, (_, index) => index),
            (index) =>
              index % 8 === 7
                ? Effect.as(counters.rebuild(project), 0)
                : Effect.orElseSucceed(ask(project, `u${index}`, 100), () => 0),
            { concurrency: 40 },
          )
          expect(ends.reduce((sum, bytes) => sum + bytes, 0)).toBe(1_000)
          expect((yield* usage(project)).reservedBytes).toBe(1_000)
        }),
      )
    }

    quotaBooks(it)

    it.effect("projects do not share room, and sizes near 2^52 stay exact", () =>
      Effect.gen(function* () {
        const [one, other] = [yield* freshProject(2 ** 52 + 1), yield* freshProject(10)]
        expect(yield* ask(one, "a", 2 ** 52)).toBe(2 ** 52)
        expect(yield* ask(one, "b", 1, 5)).toBe(1)
        expect(yield* usage(one)).toEqual({ usedBytes: 0, reservedBytes: 2 ** 52 + 1, limitBytes: 2 ** 52 + 1 })
        expect(yield* ask(other, "a", 10)).toBe(10)
      }),
    )

    it.effect("a project that is not there is not found", () =>
      Effect.gen(function* () {
        expect(yield* refusal(ask(unknownHandle(), "a", 1))).toBe("ProjectNotFound")
        expect(yield* refusal(usage(unknownHandle()))).toBe("ProjectNotFound")
      }),
    )

    it.effect("ping answers", () => Effect.flatMap(QuotaCounters, ({ ping }) => ping))

    it.effect("any sequence of operations answers as the model does", () =>
      Effect.gen(function* () {
        const runtime = yield* Effect.runtime<QuotaCounters | ProjectStore | MemoryDatabase>()
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(steps, (sequence) => Runtime.runPromise(runtime)(followsModel(sequence))),
            { numRuns: 40 },
          ),
        )
      }),
    )
  })
