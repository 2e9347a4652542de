import { Context, type Effect, Schema } from "effect"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { ProjectNotFound } from "../src/domain/Project.ts"
import type { QuotaExceeded, Usage } from "../src/domain/Quota.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** The gate's figures at one instant, in bytes. */
export interface CounterReading {
  readonly usedBytes: number
  readonly reservedBytes: number
  readonly limitBytes: number
}

/** The upload holds no reservation: it expired, or the upload was superseded or is over. */
export class ReservationLost extends Schema.TaggedError<ReservationLost>()("ReservationLost", {}) {}

type Fault = ProjectNotFound | DependencyUnavailable

/**
 * The gate in front of a project's quota: `used + reserved ≤ limit` holds inside every operation, for any number of
 * pods and of uploads whose size is not known. Postgres decides in the end; this refuses early and cheaply.
 *
 * Each operation is atomic, absolute per upload and idempotent. Figures of `Usage` are taken over only when their
 * version is newer than the counters' own, so that operations may arrive late or out of order. Counters that are
 * missing, or were made by another incarnation of the store, are rebuilt from ProjectStore before an operation is
 * answered. A reservation expires 45 s after it was last made, grown or renewed.
 */
export class QuotaCounters extends Context.Tag("services/QuotaCounters")<
  QuotaCounters,
  {
    /**
     * Makes the upload's reservation at least `need` bytes and, while there is room, up to `want`; returns the bytes
     * it now holds in total. Never shrinks one. Refused (and unchanged) when not even `need` fits, by counters that were
     * compared with the books at most 2 s ago. `superseded` names
     * an upload that this one replaces: its reservation ends in the same step, also when this one is refused.
     */
    readonly reserve: (
      project: ProjectHandle,
      uploadId: string,
      request: { readonly need: number; readonly want: number; readonly superseded?: string | undefined },
    ) => Effect.Effect<number, QuotaExceeded | Fault>
    /**
     * `reserve` for an upload that holds a reservation already: the same rule, and the same answer, for its new total.
     * `ReservationLost` (and unchanged) when it holds none, so that no upload that has ended brings one back.
     */
    readonly extend: (
      project: ProjectHandle,
      uploadId: string,
      request: { readonly need: number; readonly want: number },
    ) => Effect.Effect<number, QuotaExceeded | ReservationLost | Fault>
    /** Keeps a reservation alive; one that was lost comes back if it fits, else it is left to the commit to decide. */
    readonly renew: (project: ProjectHandle, uploadId: string, bytes: number) => Effect.Effect<void, Fault>
    /**
     * The upload was committed: its reservation ends and the books after the commit are taken over, in one step. Books
     * that are not the next ones wait for those before them, a second at most, and the reservation with them: no
     * upload is ever counted twice.
     */
    readonly commit: (project: ProjectHandle, uploadId: string, usage: Usage) => Effect.Effect<void, Fault>
    /** The upload failed: its reservation ends. */
    readonly release: (project: ProjectHandle, uploadId: string) => Effect.Effect<void, Fault>
    /** The books changed without an upload: bytes were freed by a delete, or the limit was changed. */
    readonly refund: (project: ProjectHandle, usage: Usage) => Effect.Effect<void, Fault>
    readonly usage: (project: ProjectHandle) => Effect.Effect<CounterReading, Fault>
    /** The counters as they are, with the version of the usage they have; `undefined` when they are missing. */
    readonly peek: (
      project: ProjectHandle,
    ) => Effect.Effect<(CounterReading & { readonly version: number }) | undefined, DependencyUnavailable>
    /**
     * Compares with the truth: takes it over when it is newer, once the words of commits had 1 s to arrive, or when the
     * counters claim figures Postgres never had (it was restored), unless they moved on meanwhile. Reservations of live
     * uploads stay. Returns the version of the books compared with.
     */
    readonly rebuild: (project: ProjectHandle) => Effect.Effect<number, Fault>
    readonly ping: Effect.Effect<void, DependencyUnavailable>
  }
>() {}
