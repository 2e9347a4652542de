import { Cause, Clock, Context, Deferred, Effect, Fiber, Layer, Schedule } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"

export type ReadyState = {
  readonly ready: boolean
  readonly draining: boolean
  readonly degraded: ReadonlyArray<string>
}

/**
 * Whether the node should get requests. Not before Postgres and the blob store answered once; what is lost later, and
 * Redis from the start, only degrades it, or one lost Redis would take every node out of the balancer at once. One line
 * is logged when one cannot be used any more, and one when it is back.
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
/** How often they are asked when no probe comes, so that a line tells of an outage that nobody noticed. */
const watchEvery = "5 seconds"

interface Dependency {
  readonly name: DependencyUnavailable["dependency"]
  readonly title: string
  readonly ping: Effect.Effect<void, DependencyUnavailable>
  /** Whether the node is of no use before it answered once. */
  readonly needed: boolean
  /** Whether it ever answered. */
  reached: boolean
  /** Since when it does not answer, in milliseconds since 1970. */
  awaySince: number | undefined
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
      const dependency = (options: Pick<Dependency, "name" | "title" | "ping" | "needed">): Dependency => ({
        ...options,
        reached: false,
        awaySince: undefined,
      })
      const dependencies = [
        dependency({ name: "postgres", title: "Postgres", ping: metadata.ping, needed: true }),
        ...(options.redis ? [dependency({ name: "redis", title: "Redis", ping: counters.ping, needed: false })] : []),
        dependency({ name: "blob_store", title: "The blob store", ping: blobs.ping, needed: true }),
      ]
      let draining = false
      let askedAt = Number.NEGATIVE_INFINITY
      let asking: Fiber.Fiber<unknown> | undefined

      const failed = Effect.fnUntraced(function* (dependency: Dependency, cause: Cause.Cause<DependencyUnavailable>) {
        if (Cause.isInterruptedOnly(cause) || dependency.awaySince !== undefined) return
        dependency.awaySince = yield* Clock.currentTimeMillis
        yield* Effect.annotateLogs(Effect.logWarning(`${dependency.title} cannot be used.`, Cause.squash(cause)), {
          dependency: dependency.name,
        })
      })
      const answered = Effect.fnUntraced(function* (dependency: Dependency) {
        const { awaySince, name, title } = dependency
        dependency.reached = true
        dependency.awaySince = undefined
        if (awaySince === undefined) return
        const seconds = Math.round(((yield* Clock.currentTimeMillis) - awaySince) / 100) / 10
        yield* Effect.annotateLogs(Effect.logInfo(`${title} is back after ${seconds} s.`), {
          dependency: name,
          seconds,
        })
      })
      const ask = (dependency: Dependency) =>
        dependency.ping.pipe(
          Effect.disconnect,
          Effect.timeoutFail({
            duration: pingPatience,
            onTimeout: () =>
              new DependencyUnavailable({
                dependency: dependency.name,
                operation: "ping",
                cause: new Error(`no answer in ${pingPatience} ms`),
              }),
          }),
          Effect.matchCauseEffect({
            onFailure: (cause) => failed(dependency, cause),
            onSuccess: () => answered(dependency),
          }),
        )
      const askAll = Effect.ensuring(
        Effect.forEach(dependencies, ask, { concurrency: "unbounded", discard: true }),
        Effect.sync(() => {
          asking = undefined
        }),
      )
      const known = Effect.sync(() => ({
        ready: !draining && dependencies.every(({ needed, reached }) => reached || !needed),
        draining,
        degraded: dependencies
          .filter(({ awaySince, reached }) => !reached || awaySince !== undefined)
          .map(({ name }) => name),
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
      yield* Effect.forkScoped(Effect.repeat(asked, Schedule.spaced(watchEvery)))
      // A node that drains says so without asking anyone.
      const state = Effect.suspend(() => (draining ? known : asked))
      const drain = Effect.suspend(() => {
        draining = true
        return Deferred.succeed(stopping, undefined).pipe(Effect.asVoid)
      })
      return Readiness.of({ state, drain, isDraining: () => draining, drained: Deferred.await(stopping) })
    }),
  )
