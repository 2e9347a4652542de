import { Clock, Effect, Layer } from "effect"
import { type RateLimit, RateLimiter } from "../../services/RateLimiter.ts"
import { decisionOf, intervalMicros } from "./bucket.ts"

/** Buckets that are full again are forgotten when there are more than this. */
const keptAtMost = 10_000

export const make = (limit: RateLimit): typeof RateLimiter.Service => {
  const interval = intervalMicros(limit)
  const fullAt = new Map<string, number>()
  const forgetFull = (now: number) => {
    for (const [id, full] of fullAt) if (full <= now) fullAt.delete(id)
  }
  return {
    limit,
    take: ({ keyId }) =>
      Effect.map(Clock.currentTimeMillis, (millis) => {
        const now = millis * 1000
        const before = Math.max(now, fullAt.get(keyId) ?? 0)
        const after = before + interval
        const allowed = after - now <= limit.burst * interval
        if (!allowed) return decisionOf(limit, false, before, now)
        if (fullAt.size >= keptAtMost) forgetFull(now)
        fullAt.set(keyId, after)
        return decisionOf(limit, true, after, now)
      }),
  }
}

/** Buckets of this process alone. */
export const layer = (limit: RateLimit) => Layer.sync(RateLimiter, () => make(limit))
