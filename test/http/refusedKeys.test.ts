import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import { makeRefusedKeys } from "../../src/http/RefusedKeys.ts"

describe("refusals of credentials", () => {
  it.effect("go out at once when they are few, and a hundred a second when they are many", () =>
    Effect.gen(function* () {
      const heldBack = makeRefusedKeys(() => 0)
      let answered = 0
      const refusing = yield* Effect.fork(
        Effect.forEach(
          Array.from({ length: 150 }),
          () =>
            Effect.tap(heldBack, () => {
              answered++
            }),
          { concurrency: "unbounded", discard: true },
        ),
      )
      yield* TestClock.adjust(0)
      expect(answered).toBe(50)
      yield* TestClock.adjust(500)
      expect(answered).toBe(100)
      yield* TestClock.adjust(500)
      expect(answered).toBe(150)
      yield* Fiber.join(refusing)
    }),
  )

  it.effect("are held back for a second at the most, and for no time once it was quiet", () =>
    Effect.gen(function* () {
      let now = 0
      const heldBack = makeRefusedKeys(() => now)
      let answered = 0
      const refuse = Effect.tap(heldBack, () => {
        answered++
      })
      yield* Effect.fork(
        Effect.all(
          Array.from({ length: 1000 }, () => refuse),
          { concurrency: "unbounded" },
        ),
      )
      yield* TestClock.adjust(0)
      yield* TestClock.adjust(999)
      expect(answered).toBeLessThan(200)
      yield* TestClock.adjust(1)
      expect(answered).toBe(1000)
      now = 3000
      yield* refuse
      expect(answered).toBe(1001)
    }),
  )
})
