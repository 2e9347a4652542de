import { Clock, Context, Deferred, Effect, Fiber, Layer } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"

export type ReadyState = {
  readonly ready: boolean
  readonly draining: boolean
  readonly degraded: ReadonlyArray<string>
}

/**
 * Whether the node should get requests. Not before every dependency answered once; a dependency lost later only
 * degrades it, or one lost Redis would take every node out of the balancer at once.
 */
export class Readiness extends Context.Tag("src/http/Readiness")<
  Readiness,
  {
    /** The state by pings about 1 s old, within 300 ms even if a dependency hangs. */
    readonly state: Effect.Effect<ReadyState>
    /** The node stops soon: not ready any more, and open event streams end. Idempotent. */
    readonly drain: Effect.Effect<void>
    readonly isDraining: () => boolean
    readonly drained: Effect.Effect<void>
  }
>() {}

/** How often dependencies are asked at the most, and how long an answer to that may take, in milliseconds. */
const askEvery = 1000
const pingPatience = 2000
/** How long whoever asks waits for an answer that is under way: a probe must not fail for a dependency that hangs. */
const probePatience = 300

interface Dependency {
  readonly name: string
  readonly ping: Effect.Effect<void, DependencyUnavailable>
  /** Whether it ever answered. */
  reached: boolean
  lost: boolean
}

/** `redis`: whether this node has one to lose. */
export const layer = (options: { readonly redis: boolean }) =>
  Layer.scoped(
    Readiness,
    Effect.gen(function* () {
      const metadata = yield* MetadataStore
      const counters = yield* QuotaCounters
      const blobs = yield* BlobStore
      const scope = yield* Effect.scope
      const stopping = yield* Deferred.make<void>()
      const dependency = (name: string, ping: Dependency["ping"]): Dependency => ({
        name,
        ping,
        reached: false,
        lost: true,
      })
      const dependencies = [
        dependency("postgres", metadata.ping),
        ...(options.redis ? [dependency("redis", counters.ping)] : []),
        dependency("blob_store", blobs.ping),
      ]
      let draining = false
      let askedAt = Number.NEGATIVE_INFINITY
      let asking: Fiber.Fiber<unknown> | undefined

      const ask = (dependency: Dependency) =>
        dependency.ping.pipe(
          Effect.disconnect,
          Effect.timeoutFail({ duration: pingPatience, onTimeout: () => "late" }),
          Effect.matchCause({
            onFailure: () => {
              dependency.lost = true
            },
            onSuccess: () => {
              dependency.lost = false
              dependency.reached = true
            },
          }),
        )
      const askAll = Effect.ensuring(
        Effect.forEach(dependencies, ask, { concurrency: "unbounded", discard: true }),
        Effect.sync(() => {
          asking = undefined
        }),
      )
      const known = Effect.sync(() => ({
        ready: !draining && dependencies.every(({ reached }) => reached),
        draining,
        degraded: dependencies.filter(({ lost }) => lost).map(({ name }) => name),
      }))
      const asked = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        if (asking === undefined && now - askedAt >= askEvery) {
          askedAt = now
          asking = yield* Effect.forkIn(askAll, scope)
        }
        if (asking !== undefined) yield* Effect.timeoutOption(Fiber.await(asking), probePatience)
        return yield* known
      })
      // A node that drains says so without asking anyone.
      const state = Effect.suspend(() => (draining ? known : asked))
      const drain = Effect.suspend(() => {
        draining = true
        return Deferred.succeed(stopping, undefined).pipe(Effect.asVoid)
      })
      return Readiness.of({ state, drain, isDraining: () => draining, drained: Deferred.await(stopping) })
    }),
  )
