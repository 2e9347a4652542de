import type { RateDecision, RateLimit } from "../../services/RateLimiter.ts"

/**
 * A token bucket kept as one number: the time, in microseconds since 1970, at which it will be full again. Each token that
 * is missing takes `interval` to come back. The Lua script of the Redis layer does the same.
 */
export const intervalMicros = ({ perSecond }: RateLimit): number => Math.ceil(1_000_000 / perSecond)

/** What a bucket says that will be full at `fullAt`, after the request was counted or refused. */
export const decisionOf = (limit: RateLimit, allowed: boolean, fullAt: number, now: number): RateDecision => {
  const interval = intervalMicros(limit)
  const missing = Math.max(0, fullAt - now)
  const spare = limit.burst * interval - missing
  return {
    allowed,
    remaining: Math.max(0, Math.floor(spare / interval)),
    retryAfterMillis: Math.max(0, Math.ceil((interval - spare) / 1000)),
    resetMillis: Math.ceil(missing / 1000),
  }
}
