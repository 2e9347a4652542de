import { describe, expect, it, layer } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import * as QuotaCountersMemory from "../../layers/QuotaCounters/Memory.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { freshProject } from "./fixtures.ts"
import { quotaCountersSuite } from "./QuotaCounters.ts"
import { ask, books, pendingUpload, truth, usage } from "./quotaScene.ts"

const memory = QuotaCountersMemory.layer.pipe(Layer.provideMerge(truth))

quotaCountersSuite("Memory", memory)

layer(memory)("QuotaCounters: Memory, its clock", (it) => {
  it.effect("a reservation expires 45 s after it was last made, grown or renewed", () =>
    Effect.gen(function* () {
      const counters = yield* QuotaCounters
      const project = yield* freshProject(100)
      for (const id of ["still", "grown", "renewed"]) yield* ask(project, id, 10)
      yield* TestClock.adjust("44 seconds")
      yield* counters.extend(project, "grown", { need: 20, want: 20 })
      yield* counters.renew(project, "renewed", 10)
      expect((yield* usage(project)).reservedBytes).toBe(40)
      yield* TestClock.adjust("2 seconds")
      expect((yield* usage(project)).reservedBytes).toBe(30)
      yield* TestClock.adjust("43 seconds")
      expect((yield* usage(project)).reservedBytes).toBe(0)
      expect(yield* ask(project, "next", 100)).toBe(100)
    }),
  )
})

describe("QuotaCounters: Memory, a new process", () => {
  it.effect("the counters of a new process are made from the truth", () =>
    Effect.gen(function* () {
      const project = yield* freshProject(100)
      yield* books(project, { used: 30 })
      yield* pendingUpload(project, 50)
      yield* Effect.gen(function* () {
        expect(yield* usage(project)).toEqual({ usedBytes: 30, reservedBytes: 50, limitBytes: 100 })
      }).pipe(Effect.provide(QuotaCountersMemory.layer))
    }).pipe(Effect.provide(truth)),
  )
})
