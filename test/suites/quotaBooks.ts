import { expect, type Vitest } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { MemoryDatabase } from "../../layers/clients/Memory.ts"
import type { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { Usage } from "../../src/domain/Quota.ts"
import { freshProject, refusal } from "./fixtures.ts"
import { ask, books, lookUps, usage } from "./quotaScene.ts"

/** How counters follow the books of Postgres, which reach them late, out of order or not at all. */
export const quotaBooks = (it: Vitest.MethodsNonLive<QuotaCounters | ProjectStore | MemoryDatabase, true>) => {
  it.effect("books that arrive late or out of order never replace newer ones", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      yield* ask(project, "a", 10)
      yield* ask(project, "b", 10)
      const first = yield* books(project, { used: 10 })
      const second = yield* books(project, { used: 20 })
      yield* counters.commit(project, "b", second)
      yield* counters.commit(project, "a", first)
      yield* counters.refund(project, first)
      expect(yield* usage(project)).toEqual({ usedBytes: 20, reservedBytes: 0, limitBytes: 100 })
    }),
  )

  it.effect("commits that arrive out of order are never counted twice, in any order", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      for (const order of [
        [0, 1, 2],
        [2, 1, 0],
        [1, 2, 0],
        [2, 0, 1],
      ]) {
        const project = yield* freshProject(100)
        const ids = ["a", "b", "c"]
        for (const id of ids) yield* ask(project, id, 30)
        const after = [30, 60, 90].map((used) => books(project, { used }))
        const figures = yield* Effect.all(after)
        // Who is refused asks for the books while the words of these commits are still on their way.
        const refused: Array<Fiber.Fiber<string, unknown>> = []
        for (const index of order) {
          refused.push(yield* Effect.fork(refusal(ask(project, `d${index}`, 11))))
          yield* Effect.sleep("20 millis")
          yield* counters.commit(project, ids[index] ?? "", figures[index] ?? (yield* books(project, {})))
          const { reservedBytes, usedBytes } = yield* usage(project)
          expect(usedBytes + reservedBytes).toBe(90)
        }
        for (const fiber of refused) expect(yield* Fiber.join(fiber)).toBe("QuotaExceeded")
        expect(yield* usage(project)).toEqual({ usedBytes: 90, reservedBytes: 0, limitBytes: 100 })
      }
    }),
  )

  it.effect("books freed by a delete apply at once, and end what waited for them", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      for (const id of ["a", "b"]) yield* ask(project, id, 50)
      const first = yield* books(project, { used: 50 })
      yield* counters.commit(project, "b", yield* books(project, { used: 100 }))
      yield* counters.refund(project, yield* books(project, { used: 50 }))
      expect(yield* usage(project)).toEqual({ usedBytes: 50, reservedBytes: 50, limitBytes: 100 })
      yield* counters.commit(project, "a", first)
      expect(yield* usage(project)).toEqual({ usedBytes: 50, reservedBytes: 0, limitBytes: 100 })
    }),
  )

  it.effect("books wait a second for those before them, whose node may have died", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      for (const id of ["dead", "b", "c"]) yield* ask(project, id, 30)
      yield* books(project, { used: 30 })
      yield* counters.commit(project, "b", yield* books(project, { used: 60 }))
      yield* counters.commit(project, "c", yield* books(project, { used: 90 }))
      expect(yield* usage(project)).toEqual({ usedBytes: 0, reservedBytes: 90, limitBytes: 100 })
      yield* Effect.sleep("1100 millis")
      expect(yield* usage(project)).toEqual({ usedBytes: 90, reservedBytes: 30, limitBytes: 100 })
    }),
  )

  it.effect("a changed limit applies at once, below what is used too", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      yield* ask(project, "a", 50)
      yield* counters.refund(project, yield* books(project, { limit: 40 }))
      expect(yield* refusal(ask(project, "b", 1))).toBe("QuotaExceeded")
      expect(yield* ask(project, "a", 50)).toBe(50)
      yield* counters.refund(project, yield* books(project, { limit: 80 }))
      expect(yield* ask(project, "b", 1, 100)).toBe(30)
    }),
  )

  it.effect("a rebuild of present counters takes newer books over and keeps their reservations", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      yield* ask(project, "a", 20)
      yield* books(project, { used: 50 })
      expect((yield* usage(project)).usedBytes).toBe(0)
      const { version } = yield* books(project, {})
      expect(yield* counters.rebuild(project)).toBe(version)
      expect(yield* usage(project)).toEqual({ usedBytes: 50, reservedBytes: 20, limitBytes: 100 })
    }),
  )

  it.effect("nobody is refused for room that was freed while the counters did not hear of it", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      yield* ask(project, "a", 90)
      yield* counters.commit(project, "a", yield* books(project, { used: 90 }))
      yield* books(project, { used: 20 })
      expect(yield* refusal(ask(project, "b", 81))).toBe("QuotaExceeded")
      expect(yield* ask(project, "b", 80)).toBe(80)
      expect(yield* usage(project)).toEqual({ usedBytes: 20, reservedBytes: 80, limitBytes: 100 })
    }),
  )

  it.effect("nor for the figures of a Postgres that was restored since, whatever its version is now", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      for (const ahead of [7, 1]) {
        const project = yield* freshProject(100)
        const real = yield* books(project, { used: 50 })
        yield* counters.refund(project, new Usage({ ...real, usedBytes: 90, version: real.version + ahead }))
        yield* books(project, { used: 10 })
        expect(yield* ask(project, "b", 90)).toBe(90)
        expect(yield* usage(project)).toEqual({ usedBytes: 10, reservedBytes: 90, limitBytes: 100 })
      }
    }),
  )

  it.effect("a full project's refusals ask for the books once in two seconds, at once and after one another", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      yield* counters.refund(project, yield* books(project, { used: 100 }))
      const asked = yield* lookUps
      const before = asked(project)
      const refuse = Effect.map(refusal(ask(project, "a", 1)), (tag) => expect(tag).toBe("QuotaExceeded"))
      yield* Effect.all(
        Array.from({ length: 50 }, () => refuse),
        { concurrency: 50 },
      )
      yield* Effect.replicateEffect(refuse, 20)
      expect(asked(project) - before).toBe(1)
      yield* Effect.sleep("2100 millis")
      yield* refuse
      expect(asked(project) - before).toBe(2)
    }),
  )

  it.effect("counters ahead of a restored Postgres are brought back to it by a rebuild", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      const real = yield* books(project, { used: 10 })
      yield* counters.refund(project, new Usage({ ...real, usedBytes: 90, version: real.version + 7 }))
      expect((yield* usage(project)).usedBytes).toBe(90)
      yield* counters.rebuild(project)
      expect((yield* usage(project)).usedBytes).toBe(10)
      yield* counters.refund(project, yield* books(project, { used: 20 }))
      expect((yield* usage(project)).usedBytes).toBe(20)
    }),
  )
}
