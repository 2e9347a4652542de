import { Context, type Effect } from "effect"
import type { CredentialId, ProjectHandle } from "../src/domain/Ids.ts"

/** How often a key may be used: a bucket of `burst` tokens that gets `perSecond` new ones each second. Both at least 1. */
export interface RateLimit {
  readonly perSecond: number
  readonly burst: number
}

/** What a bucket said. Times are milliseconds from now. */
export interface RateDecision {
  readonly allowed: boolean
  /** Whole tokens left, after this request. */
  readonly remaining: number
  /** Until the next request is allowed; 0 when one is. */
  readonly retryAfterMillis: number
  /** Until the bucket is full again. */
  readonly resetMillis: number
}

/**
 * The limit on how often each API key may be used. All pods of a plane share a key's bucket, as long as what they share is
 * reachable. Keys do not affect each other. A limiter never fails and never makes a request wait for long: a pod that cannot
 * reach the shared buckets decides by buckets of its own, which are full at first.
 */
export class RateLimiter extends Context.Tag("services/RateLimiter")<
  RateLimiter,
  {
    readonly limit: RateLimit
    /** Takes a token, if there is one. Atomic. A request that is refused takes none. */
    readonly take: (key: {
      readonly project: ProjectHandle
      readonly keyId: CredentialId
    }) => Effect.Effect<RateDecision>
  }
>() {}
