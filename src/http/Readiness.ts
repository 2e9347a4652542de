import { Clock, Context, Deferred, Effect, Layer } from "effect"
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
    /** The state by pings at most 1 s old. */
    readonly state: Effect.Effect<ReadyState>
    /** The node stops soon: not ready any more, and open event streams end. Idempotent. */
    readonly drain: Effect.Effect<void>
    readonly isDraining: () => boolean
    readonly drained: Effect.Effect<void>
  }
>() {}

/** `redis`: whether this node has one to lose. */
export const layer = (options: { readonly redis: boolean }) =>
  Layer.effect(
    Readiness,
    Effect.gen(function* () {
      const metadata = yield* MetadataStore
      const counters = yield* QuotaCounters
      const blobs = yield* BlobStore
      const stopping = yield* Deferred.make<void>()
      const pings: ReadonlyArray<readonly [string, Effect.Effect<void, DependencyUnavailable>]> = [
        ["postgres", metadata.ping],
        ...(options.redis ? ([["redis", counters.ping]] as const) : []),
        ["blob_store", blobs.ping],
      ]
      const reached = new Set<string>()
      let draining = false
      let degraded: ReadonlyArray<string> = []
      let askedAt = Number.NEGATIVE_INFINITY

      const ask = Effect.gen(function* () {
        const lost: Array<string> = []
        yield* Effect.forEach(
          pings,
          ([name, ping]) =>
            Effect.matchCause(Effect.timeoutFail(ping, { duration: "2 seconds", onTimeout: () => "late" }), {
              onFailure: () => void lost.push(name),
              onSuccess: () => void reached.add(name),
            }),
          { concurrency: "unbounded", discard: true },
        )
        degraded = pings.map(([name]) => name).filter((name) => lost.includes(name))
        askedAt = yield* Clock.currentTimeMillis
      })
      const gate = yield* Effect.makeSemaphore(1)
      const known = Effect.sync(() => ({ ready: !draining && reached.size === pings.length, draining, degraded }))
      const asked = gate.withPermits(1)(
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          if (now - askedAt >= 1000) yield* ask
          return yield* known
        }),
      )
      // A node that drains says so without asking anyone.
      const state = Effect.suspend(() => (draining ? known : asked))
      const drain = Effect.suspend(() => {
        draining = true
        return Deferred.succeed(stopping, undefined).pipe(Effect.asVoid)
      })
      return Readiness.of({ state, drain, isDraining: () => draining, drained: Deferred.await(stopping) })
    }),
  )
