import { Effect } from "effect"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import { QuotaExceeded, type Usage } from "../../src/domain/Quota.ts"
import { ProjectStore, type QuotaSnapshot } from "../../services/ProjectStore.ts"
import { type CounterReading, QuotaCounters } from "../../services/QuotaCounters.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** Counters that are not there, or were made by another incarnation of their store. */
export const missing = Symbol("missing counters")
export type Missing = typeof missing

/** What a technology must do, each atomically; `missing` changes nothing. */
export interface RawCounters {
  /** Ends the reservation of `superseded` first, if one is named. */
  readonly reserve: (
    project: ProjectHandle,
    uploadId: string,
    need: number,
    want: number,
    superseded: string | undefined,
  ) => Effect.Effect<
    { readonly _tag: "Granted"; readonly bytes: number } | ({ readonly _tag: "Refused" } & CounterReading) | Missing,
    DependencyUnavailable
  >
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

    const reserve = (operation: string) =>
      traced(operation)(function* (
        project: ProjectHandle,
        uploadId: string,
        request: { readonly need: number; readonly want: number; readonly superseded?: string | undefined },
      ) {
        const { need, superseded } = request
        const want = Math.max(need, request.want)
        const answer = yield* present(project, operation, raw.reserve(project, uploadId, need, want, superseded))
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
      reserve: reserve("QuotaCounters.reserve"),
      extend: reserve("QuotaCounters.extend"),
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
        const before = yield* raw.read(project)
        const snapshot = yield* projects.quotaSnapshot(project)
        // Read after the counters: a version they claim and Postgres has not reached means Postgres was restored. A
        // caller that was paused in between finds the counters moved on, and takes nothing back.
        const restored = before !== missing && before.version > snapshot.usage.version
        yield* raw.load(project, snapshot, restored ? before.version : undefined)
        return snapshot.usage.version
      }),
      ping: raw.ping,
    })
  })
