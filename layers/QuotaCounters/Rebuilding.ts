import { Cache, Duration, Effect, Exit, Schedule } from "effect"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import { QuotaExceeded, type Usage } from "../../src/domain/Quota.ts"
import { ProjectStore, type QuotaSnapshot } from "../../services/ProjectStore.ts"
import { type CounterReading, QuotaCounters, ReservationLost } from "../../services/QuotaCounters.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** Counters that are not there, or were made by another incarnation of their store. */
export const missing = Symbol("missing counters")
export type Missing = typeof missing

type Granted = { readonly _tag: "Granted"; readonly bytes: number }
type Refused = { readonly _tag: "Refused" } & CounterReading

/** What a technology must do, each atomically; `missing` changes nothing. */
export interface RawCounters {
  /** Ends the reservation of `superseded` first, if one is named. */
  readonly reserve: (
    project: ProjectHandle,
    uploadId: string,
    need: number,
    want: number,
    superseded: string | undefined,
  ) => Effect.Effect<Granted | Refused | Missing, DependencyUnavailable>
  /** `reserve`, but "Lost" when there is no reservation to extend. */
  readonly extend: (
    project: ProjectHandle,
    uploadId: string,
    need: number,
    want: number,
  ) => Effect.Effect<Granted | Refused | { readonly _tag: "Lost" } | Missing, DependencyUnavailable>
  /** Prolongs the reservation, or brings back one of `bytes` that was lost if it fits. */
  readonly renew: (
    project: ProjectHandle,
    uploadId: string,
    bytes: number,
  ) => Effect.Effect<true | Missing, DependencyUnavailable>
  /** Ends the upload's reservation, if one is named, and takes newer figures over, if there are any. */
  readonly settle: (
    project: ProjectHandle,
    uploadId: string | undefined,
    usage: Usage | undefined,
  ) => Effect.Effect<true | Missing, DependencyUnavailable>
  readonly read: (
    project: ProjectHandle,
  ) => Effect.Effect<(CounterReading & { readonly version: number }) | Missing, DependencyUnavailable>
  /**
   * Figures are taken over when the counters are missing, older, or still at version `unlessMoved`; reservations only
   * when they were missing.
   */
  readonly load: (
    project: ProjectHandle,
    snapshot: QuotaSnapshot,
    unlessMoved: number | undefined,
  ) => Effect.Effect<void, DependencyUnavailable>
  readonly ping: Effect.Effect<void, DependencyUnavailable>
}

/** How long a pod's word of a commit may take before it counts as lost, as for commits that wait in `early`. */
const wordTimeout = "1 second"
/** How long a comparison with Postgres stands, so that refusals in a full project cost Postgres next to nothing. */
const comparisonTtl = Duration.seconds(2)

/** Makes counters that rebuild themselves from the truth whenever they are missing. */
export const rebuilding = (raw: RawCounters) =>
  Effect.gen(function* () {
    const projects = yield* ProjectStore
    const loadTruth = (project: ProjectHandle) =>
      Effect.flatMap(projects.quotaSnapshot(project), (snapshot) => raw.load(project, snapshot, undefined))

    /** Each round finds the counters flushed again only if that happened in between: a few rounds are plenty. */
    const present = <A, E>(project: ProjectHandle, operation: string, attempt: Effect.Effect<A | Missing, E>) => {
      const round = (left: number): Effect.Effect<A, E | Effect.Effect.Error<ReturnType<typeof loadTruth>>> =>
        Effect.flatMap(attempt, (answer) => {
          if (answer !== missing) return Effect.succeed(answer as A)
          return left > 0
            ? Effect.zipRight(loadTruth(project), round(left - 1))
            : new DependencyUnavailable({
                dependency: "redis",
                operation,
                cause: new Error("the counters keep vanishing"),
              })
        })
      return round(5)
    }

    /** Whether the words of all commits and deletes up to `version` arrive in time. */
    const caughtUp = (project: ProjectHandle, version: number) => {
      const arrived = Effect.map(raw.read(project), (counters) => counters !== missing && counters.version >= version)
      const waiting = Schedule.spaced("50 millis").pipe(Schedule.upTo(wordTimeout))
      return Effect.zipRight(Effect.repeat(arrived, { until: (yes) => yes, schedule: waiting }), arrived)
    }

    /**
     * Compares the counters with Postgres and takes its figures over where they differ. Words of commits that are on
     * their way are waited for first: figures that include a commit whose reservation still stands would count it twice.
     */
    const compare = Effect.fnUntraced(function* (project: ProjectHandle) {
      const before = yield* raw.read(project)
      const snapshot = yield* projects.quotaSnapshot(project)
      const { limitBytes, usedBytes, version } = snapshot.usage
      if (before === missing) {
        yield* raw.load(project, snapshot, undefined)
        return { version, changed: true }
      }
      if (before.version < version) {
        if (!(yield* caughtUp(project, version))) yield* raw.load(project, snapshot, undefined)
        return { version, changed: true }
      }
      // Read after the counters: a version they claim and Postgres has not reached, or has reached with other figures,
      // means that Postgres was restored. A caller that was paused in between finds the counters moved on, and takes
      // nothing back.
      const restored = before.version > version || before.usedBytes !== usedBytes || before.limitBytes !== limitBytes
      if (restored) yield* raw.load(project, snapshot, before.version)
      return { version, changed: restored }
    })

    /** By project: whether the latest comparison changed the counters. Callers at once share one, whoever leaves. */
    const comparisons = yield* Cache.makeWith({
      capacity: 1000,
      lookup: (project: ProjectHandle) =>
        Effect.uninterruptible(Effect.map(compare(project), ({ changed }) => changed)),
      timeToLive: (exit) => (Exit.isSuccess(exit) ? comparisonTtl : Duration.zero),
    })

    /** The bytes that are granted, or a refusal by counters that were compared with the truth at most 2 s ago. */
    const granted = Effect.fnUntraced(function* <E>(
      operation: string,
      project: ProjectHandle,
      need: number,
      attempt: Effect.Effect<Granted | Refused | Missing, E>,
    ) {
      const ask = present(project, operation, attempt)
      const first = yield* ask
      if (first._tag === "Granted") return first.bytes
      const answer = (yield* comparisons.get(project)) ? yield* ask : first
      if (answer._tag === "Granted") return answer.bytes
      const { limitBytes, usedBytes, reservedBytes } = answer
      return yield* new QuotaExceeded({ limitBytes, usedBytes, reservedBytes, requestedBytes: need })
    })

    const settle = (operation: string) =>
      traced(operation)(function* (project: ProjectHandle, uploadId: string | undefined, usage: Usage | undefined) {
        yield* present(project, operation, raw.settle(project, uploadId, usage))
      })
    const commit = settle("QuotaCounters.commit")
    const release = settle("QuotaCounters.release")
    const refund = settle("QuotaCounters.refund")

    return QuotaCounters.of({
      reserve: traced("QuotaCounters.reserve")((project, uploadId, { need, superseded, want }) => {
        const attempt = raw.reserve(project, uploadId, need, Math.max(need, want), superseded)
        return granted("QuotaCounters.reserve", project, need, attempt)
      }),
      extend: traced("QuotaCounters.extend")((project, uploadId, { need, want }) => {
        const attempt = Effect.flatMap(raw.extend(project, uploadId, need, Math.max(need, want)), (answer) =>
          answer !== missing && answer._tag === "Lost" ? new ReservationLost() : Effect.succeed(answer),
        )
        return granted("QuotaCounters.extend", project, need, attempt)
      }),
      renew: traced("QuotaCounters.renew")(function* (project, uploadId, bytes) {
        yield* present(project, "QuotaCounters.renew", raw.renew(project, uploadId, bytes))
      }),
      commit: (project, uploadId, usage) => commit(project, uploadId, usage),
      release: (project, uploadId) => release(project, uploadId, undefined),
      refund: (project, usage) => refund(project, undefined, usage),
      usage: traced("QuotaCounters.usage")(function* (project) {
        const { version: _, ...reading } = yield* present(project, "QuotaCounters.usage", raw.read(project))
        return reading
      }),
      peek: traced("QuotaCounters.peek")((project) =>
        Effect.map(raw.read(project), (reading) => (reading === missing ? undefined : reading)),
      ),
      rebuild: traced("QuotaCounters.rebuild")(function* (project) {
        return (yield* compare(project)).version
      }),
      ping: raw.ping,
    })
  })
