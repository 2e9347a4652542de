import { expect } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as fc from "fast-check"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { freshProject } from "./fixtures.ts"
import { ask, books } from "./quotaScene.ts"

type Step =
  | { readonly _tag: "reserve"; readonly upload: string; readonly need: number; readonly more: number }
  | { readonly _tag: "renew"; readonly upload: string; readonly bytes: number }
  | { readonly _tag: "release" | "commit"; readonly upload: string }
  | { readonly _tag: "delete" | "rebuild" }
  | { readonly _tag: "limit"; readonly bytes: number }

const upload = fc.constantFrom("a", "b", "c")
export const steps: fc.Arbitrary<Array<Step>> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ _tag: fc.constant("reserve" as const), upload, need: fc.nat(80), more: fc.nat(60) }),
    },
    { weight: 1, arbitrary: fc.record({ _tag: fc.constant("renew" as const), upload, bytes: fc.nat(80) }) },
    { weight: 3, arbitrary: fc.record({ _tag: fc.constantFrom("release" as const, "commit" as const), upload }) },
    { weight: 1, arbitrary: fc.record({ _tag: fc.constantFrom("delete" as const, "rebuild" as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({ _tag: fc.constant("limit" as const), bytes: fc.integer({ min: 50, max: 150 }) }),
    },
  ),
  { maxLength: 40 },
)

/** Runs the steps against the counters and a model of a few lines, comparing every answer. */
export const followsModel = (sequence: ReadonlyArray<Step>) =>
  Effect.gen(function* () {
    const counters = yield* QuotaCounters
    const project = yield* freshProject(100)
    const held = new Map<string, number>()
    let used = 0
    let limit = 100
    const sum = () => [...held.values()].reduce((total, bytes) => total + bytes, 0)
    for (const step of sequence) {
      switch (step._tag) {
        case "reserve": {
          const before = held.get(step.upload) ?? 0
          const room = limit - used - (sum() - before)
          const want = step.need + step.more
          const fits = step.need <= before || step.need <= room
          const answer = yield* Effect.either(ask(project, step.upload, step.need, want))
          if (fits) held.set(step.upload, Math.max(before, Math.min(want, room)))
          expect(Either.getOrElse(answer, ({ _tag }) => _tag)).toEqual(fits ? held.get(step.upload) : "QuotaExceeded")
          break
        }
        case "renew": {
          yield* counters.renew(project, step.upload, step.bytes)
          if (!held.has(step.upload) && step.bytes <= limit - used - sum()) held.set(step.upload, step.bytes)
          break
        }
        case "release": {
          yield* counters.release(project, step.upload)
          held.delete(step.upload)
          break
        }
        case "commit": {
          used += held.get(step.upload) ?? 0
          held.delete(step.upload)
          yield* counters.commit(project, step.upload, yield* books(project, { used }))
          break
        }
        case "delete": {
          used = 0
          yield* counters.refund(project, yield* books(project, { used }))
          break
        }
        case "limit": {
          limit = step.bytes
          yield* counters.refund(project, yield* books(project, { limit }))
          break
        }
        case "rebuild": {
          yield* counters.rebuild(project)
          break
        }
      }
      expect(yield* counters.usage(project)).toEqual({ usedBytes: used, reservedBytes: sum(), limitBytes: limit })
    }
  })
