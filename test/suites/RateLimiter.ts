import { expect, layer } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { Ids } from "../../services/Ids.ts"
import { type RateLimit, RateLimiter } from "../../services/RateLimiter.ts"
import { live, unknownHandle } from "./fixtures.ts"

const together = { concurrency: "unbounded" } as const

export const freshKey = Effect.gen(function* () {
  return { project: unknownHandle(), keyId: yield* (yield* Ids).credential }
})

/** The contract of services/RateLimiter, a test a sentence. `subject` makes a limiter with this limit. */
export const rateLimiterSuite = <E>(name: string, subject: (limit: RateLimit) => Layer.Layer<RateLimiter | Ids, E>) => {
  // A token takes so long to come back that none does within a test.
  layer(subject({ perSecond: 1, burst: 5 }), live)(`RateLimiter: ${name}`, (it) => {
    it.effect("a burst is allowed, what comes after it is refused and told when to come back", () =>
      Effect.gen(function* () {
        const limiter = yield* RateLimiter
        const key = yield* freshKey
        const decisions = yield* Effect.replicateEffect(limiter.take(key), 5)
        expect(decisions.map(({ allowed, remaining }) => [allowed, remaining])).toEqual(
          [4, 3, 2, 1, 0].map((left) => [true, left]),
        )
        const refused = yield* limiter.take(key)
        expect(refused).toMatchObject({ allowed: false, remaining: 0 })
        expect(refused.retryAfterMillis).toBeGreaterThan(0)
        expect(refused.retryAfterMillis).toBeLessThanOrEqual(1000)
        expect(refused.resetMillis).toBeGreaterThan(3000)
        expect(refused.resetMillis).toBeLessThanOrEqual(5000)
        expect(limiter.limit).toEqual({ perSecond: 1, burst: 5 })
      }),
    )

    it.effect("requests at the same time get no more than there is", () =>
      Effect.gen(function* () {
        const limiter = yield* RateLimiter
        const key = yield* freshKey
        const decisions = yield* Effect.all(
          Array.from({ length: 40 }, () => limiter.take(key)),
          together,
        )
        expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(5)
      }),
    )

    it.effect("keys do not affect each other", () =>
      Effect.gen(function* () {
        const limiter = yield* RateLimiter
        const key = yield* freshKey
        yield* Effect.replicateEffect(limiter.take(key), 6)
        const { keyId } = yield* freshKey
        expect((yield* limiter.take({ ...key, keyId })).remaining).toBe(4)
      }),
    )
  })

  layer(subject({ perSecond: 10, burst: 2 }), live)(`RateLimiter: ${name}, tokens that come back`, (it) => {
    it.effect("one tenth of a second brings one token of ten a second, and a refusal takes none", () =>
      Effect.gen(function* () {
        const limiter = yield* RateLimiter
        const key = yield* freshKey
        yield* Effect.replicateEffect(limiter.take(key), 2)
        const { allowed, retryAfterMillis } = yield* limiter.take(key)
        expect(allowed).toBe(false)
        yield* Effect.replicateEffect(limiter.take(key), 20)
        yield* Effect.sleep(retryAfterMillis + 20)
        expect((yield* limiter.take(key)).allowed).toBe(true)
      }),
    )

    it.effect("a bucket never holds more than its burst", () =>
      Effect.gen(function* () {
        const limiter = yield* RateLimiter
        const key = yield* freshKey
        yield* limiter.take(key)
        yield* Effect.sleep(700)
        const { remaining, resetMillis } = yield* limiter.take(key)
        expect(remaining).toBe(1)
        expect(resetMillis).toBeLessThanOrEqual(100)
      }),
    )
  })
}
