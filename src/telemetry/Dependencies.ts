import { Cause, type Context, Effect, Layer, type Metric, MetricKey, Option } from "effect"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { secondBuckets } from "./buckets.ts"
import { labelled } from "./labelled.ts"

type Dependency = DependencyUnavailable["dependency"]

const durations = MetricKey.histogram(
  "artifact_dependency_duration_seconds",
  secondBuckets,
  "How long an operation took that answered, a refusal included.",
)
const errors = MetricKey.counter("artifact_dependency_errors_total", {
  description: "Operations that a dependency did not answer, or not in time.",
  incremental: true,
})

const failed = new Map<Dependency, Metric.Metric.Counter<number>>()
for (const dependency of ["postgres", "redis", "blob_store", "lease_introspection"] as const)
  failed.set(dependency, labelled(errors, { dependency }).register())

/** Counted under the dependency that failed, which need not be the one that was asked. */
const countFault = (cause: Cause.Cause<unknown>): boolean => {
  const error = Option.getOrUndefined(Cause.failureOption(cause))
  if (!(error instanceof DependencyUnavailable)) return false
  failed.get(error.dependency)?.unsafeUpdate(1, [])
  return true
}

type AnyEffect = Effect.Effect<unknown, unknown, unknown>

const timer = (dependency: Dependency, operation: string) => {
  const duration = labelled(durations, { dependency, operation })
  return (run: () => AnyEffect): AnyEffect =>
    Effect.suspend(() => {
      const begun = performance.now()
      const done = () => duration.unsafeUpdate((performance.now() - begun) / 1000, [])
      return Effect.matchCauseEffect(run(), {
        onSuccess: (value) => {
          done()
          return Effect.succeed(value)
        },
        onFailure: (cause) => {
          if (!countFault(cause) && !Cause.isInterruptedOnly(cause)) done()
          return Effect.failCause(cause)
        },
      })
    })
}

/** Faults alone, for what is mostly answered from memory and would drown the times of what is not. */
const faultsOnly = (run: () => AnyEffect): AnyEffect =>
  Effect.tapErrorCause(Effect.suspend(run), (cause) => Effect.sync(() => countFault(cause)))

interface Options<S> {
  /** Operations mostly answered from memory. */
  readonly remembered?: ReadonlyArray<keyof S & string>
  /** What an operation's result can do later, e.g. the `finish` of an open writer. */
  readonly later?: Partial<Record<keyof S & string, string>>
}

const observed = <S extends object>(dependency: Dependency, name: string, service: S, options: Options<S>): S => {
  const wrap = (operation: string, member: unknown): unknown => {
    const time = options.remembered?.includes(operation as keyof S & string)
      ? faultsOnly
      : timer(dependency, `${name}.${operation}`)
    const later = options.later?.[operation as keyof S & string]
    const timeLater = later === undefined ? undefined : timer(dependency, `${name}.${later}`)
    const observe = (effect: AnyEffect): AnyEffect => {
      const timed = time(() => effect)
      if (later === undefined || timeLater === undefined) return timed
      return Effect.map(timed, (made) => {
        const object = made as Record<string, AnyEffect>
        const act = object[later] as AnyEffect
        return { ...object, [later]: timeLater(() => act) }
      })
    }
    if (Effect.isEffect(member)) return observe(member as AnyEffect)
    if (typeof member !== "function") return member
    return (...args: ReadonlyArray<unknown>) => {
      const result: unknown = member(...args)
      return Effect.isEffect(result) ? observe(result as AnyEffect) : result
    }
  }
  return Object.fromEntries(Object.entries(service).map(([key, member]) => [key, wrap(key, member)])) as S
}

/** A layer of a service whose every operation is timed, and its faults counted, whatever its technology. */
export const observe =
  <I, S extends object>(tag: Context.Tag<I, S>, dependency: Dependency, options: Options<S> = {}) =>
  <E, R>(layer: Layer.Layer<I, E, R>): Layer.Layer<I, E, R> =>
    Layer.effect(
      tag,
      Effect.map(tag, (service) => observed(dependency, tag.key.split("/").at(-1) ?? tag.key, service, options)),
    ).pipe(Layer.provide(layer))
