import { Context, type Effect, Schema } from "effect"
import type { ArtifactId, ProjectHandle } from "../src/domain/Ids.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** Another actor took the project over since: whoever holds this epoch writes nothing more. */
export class StaleEpoch extends Schema.TaggedError<StaleEpoch>()("StaleEpoch", {
  project: Schema.String,
  epoch: Schema.Number,
}) {}

/** A project with something to do. */
export interface Due {
  readonly project: ProjectHandle
  /** It has uploads that nobody renewed for long. */
  readonly sweep: boolean
  /** It is time to hold its counters against the books. */
  readonly reconcile: boolean
}

/** An upload that can never be committed any more and whose leftovers must go. */
export interface AbandonedUpload {
  readonly id: ArtifactId
  readonly blobKey: string
}

type Fault = StaleEpoch | DependencyUnavailable

/**
 * What the background has to do for each project, and the fence around it. Actors are delivered to at least once and
 * may be paused for as long as it pleases the machine, so two can believe that they own a project. Each takes an epoch
 * when it begins; every write names it, checks it under the row's lock, and is refused once a later one was taken.
 */
export class ProjectDuties extends Context.Tag("services/ProjectDuties")<
  ProjectDuties,
  {
    /** Projects with work, the most overdue first. One indexed query, whatever the number of projects. */
    readonly due: (options: {
      readonly staleSeconds: number
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<Due>, DependencyUnavailable>
    /** Takes the project over: the epoch returned is higher than any before it. `undefined`: no such project. */
    readonly take: (project: ProjectHandle) => Effect.Effect<number | undefined, DependencyUnavailable>
    /**
     * Fences up to `limit` uploads of the project that were not renewed for `staleSeconds`, so that no commit can
     * succeed; returns them with those fenced earlier and not forgotten, at most once in `staleSeconds` each.
     */
    readonly fenceStale: (
      project: ProjectHandle,
      epoch: number,
      options: { readonly staleSeconds: number; readonly limit: number },
    ) => Effect.Effect<ReadonlyArray<AbandonedUpload>, Fault>
    /** Once the bytes of a fenced upload are gone: forgets it. Idempotent. */
    readonly forget: (project: ProjectHandle, epoch: number, id: ArtifactId) => Effect.Effect<void, Fault>
    /**
     * The counters agree with the books of `version`. The next look is due in a minute, or, while the version stays
     * the same, after twice the last pause, up to an hour.
     */
    readonly reconciled: (project: ProjectHandle, epoch: number, version: number) => Effect.Effect<void, Fault>
  }
>() {}
