import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted } from "effect"
import { inject } from "vitest"
import * as RedisClient from "../../layers/clients/Redis.ts"
import * as Ids from "../../layers/Ids/Random.ts"
import * as RateLimiterMemory from "../../layers/RateLimiter/Memory.ts"
import * as RateLimiterRedis from "../../layers/RateLimiter/Redis.ts"
import { type RateLimit, RateLimiter } from "../../services/RateLimiter.ts"
import { startRedis } from "../support/redis.ts"
import { freshKey, rateLimiterSuite } from "./RateLimiter.ts"

const url = inject("redisUrl")

const over = (url: string) => (limit: RateLimit) =>
  RateLimiterRedis.layer(limit).pipe(
    Layer.provideMerge(RedisClient.layer({ url: Redacted.make(url) })),
    Layer.provideMerge(Ids.layer),
  )

rateLimiterSuite("Memory", (limit) => Layer.merge(RateLimiterMemory.layer(limit), Ids.layer))

if (url !== null) {
  rateLimiterSuite("Redis", over(url))

  describe("RateLimiter: Redis", () => {
    const limit = { perSecond: 1, burst: 4 }

    it.scopedLive("pods share a key's bucket, and Redis forgets one that is full", () =>
      Effect.gen(function* () {
        const pod = Effect.flatMap(Layer.build(Layer.fresh(over(url)(limit))), (built) =>
          Effect.provide(Effect.all([RateLimiter, RedisClient.Redis]), built),
        )
        const [[one, { commands }], [two]] = [yield* pod, yield* pod]
        const key = yield* Effect.provide(freshKey, Ids.layer)
        for (const [limiter, left] of [
          [one, 3],
          [two, 2],
          [one, 1],
        ] as const)
          expect((yield* limiter.take(key)).remaining).toBe(left)
        const expiry = yield* Effect.promise(() => commands.pttl(`rate:{${key.project}}:${key.keyId}`))
        expect(expiry).toBeGreaterThan(1000)
        expect(expiry).toBeLessThanOrEqual(3000)
      }),
    )

    it.scopedLive("a Redis that hangs, dies and comes back refuses nobody and holds nobody up", () =>
      Effect.gen(function* () {
        const server = yield* Effect.acquireRelease(
          Effect.promise(() => startRedis()),
          (started) => Effect.promise(() => started.dispose()),
        )
        const limiter = yield* Effect.provide(
          RateLimiter,
          yield* Layer.build(over(server.url)({ perSecond: 1, burst: 50 })),
        )
        const key = yield* Effect.provide(freshKey, Ids.layer)
        yield* Effect.replicateEffect(limiter.take(key), 3)
        yield* Effect.sync(() => server.pause())
        const first = yield* Effect.timed(limiter.take(key))
        expect(first[1].allowed).toBe(true)
        // The pod's own bucket was full.
        expect(first[1].remaining).toBe(49)
        const [took, decisions] = yield* Effect.timed(Effect.replicateEffect(limiter.take(key), 30))
        expect(decisions.every(({ allowed }) => allowed)).toBe(true)
        // Nowhere near the 30 x 50 ms, or the 1.2 s of a command, that waiting for Redis each time would take.
        expect(Duration.toMillis(took)).toBeLessThan(1000)
        // It has a limit all the same.
        const more = yield* Effect.replicateEffect(limiter.take(key), 40)
        expect(more.some(({ allowed }) => !allowed)).toBe(true)
        yield* Effect.sync(() => server.resume())
        const shared = Effect.map(limiter.take(key), ({ remaining }) => remaining)
        const back = yield* Effect.iterate(0, {
          while: (left) => left < 40,
          body: () => Effect.zipRight(Effect.sleep(200), shared),
        }).pipe(Effect.timeout("10 seconds"))
        expect(back).toBeGreaterThan(39)
      }),
    )
  })
}
