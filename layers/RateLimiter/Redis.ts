import { Clock, Effect, Layer } from "effect"
import { type RateDecision, type RateLimit, RateLimiter } from "../../services/RateLimiter.ts"
import type { CredentialId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Redis, redisUnavailable } from "../clients/Redis.ts"
import { decisionOf, intervalMicros } from "./bucket.ts"
import * as Memory from "./Memory.ts"

/**
 * KEYS 1 the bucket (string: when it is full again, in microseconds of Redis's clock); it expires then.
 * ARGV 1 microseconds until a token comes back, 2 tokens of a full bucket.
 * Answers {1 or 0: taken or not, microseconds until the bucket is full}.
 * Invariant: a bucket never misses more tokens than it has.
 */
const script = `
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local after = full + interval
if after - now > interval * burst then return {0, string.format('%.0f', full - now)} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, string.format('%.0f', after - now)}`

/** How long an answer is waited for; a request waits no longer for its bucket. Milliseconds. */
const answerMillis = 50
/** How often Redis is asked whether it is back, in milliseconds. */
const pauseMillis = 1000

const keyOf = (project: ProjectHandle, keyId: CredentialId) => `rate:{${project}}:${keyId}`

const make = (limit: RateLimit) =>
  Effect.gen(function* () {
    const { commands } = yield* Redis
    const own = Memory.make(limit)
    commands.defineCommand("rate_take", { numberOfKeys: 1, lua: script })
    const take = (commands as unknown as { rate_take(...args: Array<string | number>): Promise<[number, string]> })
      .rate_take
    /** Whether the last question stayed unanswered, and from when on it may be asked again. */
    let away = false
    let askAgainAt = 0

    const ask = (project: ProjectHandle, keyId: CredentialId) =>
      Effect.tryPromise({
        try: () => take.call(commands, keyOf(project, keyId), intervalMicros(limit), limit.burst),
        catch: redisUnavailable("RateLimiter.take"),
      }).pipe(
        Effect.map(([taken, missing]): RateDecision => decisionOf(limit, taken === 1, Number(missing), 0)),
        Effect.disconnect,
        Effect.timeout(answerMillis),
      )

    /** Not part of any request. */
    const askWhetherItIsBack = Effect.forkDaemon(
      Effect.ignore(
        Effect.map(
          Effect.tryPromise(() => commands.ping()),
          () => {
            away = false
          },
        ),
      ),
    )

    return RateLimiter.of({
      limit,
      take: (key) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (!away)
            return Effect.catchAll(ask(key.project, key.keyId), () => {
              away = true
              askAgainAt = now + pauseMillis
              return own.take(key)
            })
          if (now < askAgainAt) return own.take(key)
          askAgainAt = now + pauseMillis
          return Effect.zipRight(askWhetherItIsBack, own.take(key))
        }),
    })
  })

/**
 * Buckets that all pods share. While Redis does not answer, the pod's own decide: those that were asking wait 50 ms for it,
 * later ones not at all, and once a second it is asked whether it is back.
 */
export const layer = (limit: RateLimit) => Layer.effect(RateLimiter, make(limit))
