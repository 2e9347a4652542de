import { Context, type Effect } from "effect"
import type { ArtifactId, ProjectHandle, Sha256 } from "../src/domain/Ids.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** What a ready artifact's row says of its object. */
export interface StoredArtifact {
  readonly id: ArtifactId
  readonly project: ProjectHandle
  readonly blobKey: string
  /** Bytes. */
  readonly size: number
  readonly sha256: Sha256
}

/** What a project's ready artifacts were charged, in bytes, and their number. */
export interface Sum {
  readonly bytes: number
  readonly count: number
}

/** A project's usage as its row has it, and as the sum of its artifacts' rows. */
export interface BookedUsage {
  readonly project: ProjectHandle
  readonly booked: Sum
  readonly summed: Sum
}

/**
 * The database as a whole, for a check of the plane: every table it has is read in pages, each one statement, so that
 * memory is bounded. No statement here has a place on the way of a request.
 */
export class Audit extends Context.Tag("services/Audit")<
  Audit,
  {
    /** Up to `limit` ready artifacts of all projects by id, behind the id `after`. */
    readonly ready: (
      after: string | undefined,
      limit: number,
    ) => Effect.Effect<ReadonlyArray<StoredArtifact>, DependencyUnavailable>
    /** Those of the ids that are still ready. */
    readonly stillReady: (
      ids: ReadonlyArray<ArtifactId>,
    ) => Effect.Effect<ReadonlyArray<ArtifactId>, DependencyUnavailable>
    /** Up to `limit` projects by handle, behind the handle `after`; each project's figures are of one instant. */
    readonly usage: (
      after: string | undefined,
      limit: number,
    ) => Effect.Effect<ReadonlyArray<BookedUsage>, DependencyUnavailable>
    /** Makes the usage of the project's row the sum of its artifacts, under the row's lock. Returns whether it differed. */
    readonly recount: (project: ProjectHandle) => Effect.Effect<boolean, DependencyUnavailable>
    /** The sequences of those of the event ids that this database has. */
    readonly placesOf: (
      ids: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<{ readonly id: string; readonly sequence: number }>, DependencyUnavailable>
  }
>() {}
