import { Context, type Effect } from "effect"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { ProjectCaller } from "../src/domain/Principal.ts"
import type { SourceEvent } from "../src/domain/SourceEvent.ts"
import type { Pruned, PruneStep } from "./Pruning.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

export interface OutboxState {
  /** The highest sequence ever given out; 0 at first. */
  readonly lastSequence: number
  /** The highest sequence known to stand in the stream. */
  readonly lastPublished: number
  /** The lowest sequence still retained; `undefined` when none is. */
  readonly oldestRetained: number | undefined
}

/** Events that stand in the stream at these sequences. */
export type Published = ReadonlyArray<{ readonly id: string; readonly sequence: number }>

/** How many events one look examines at the most: `readVisible` of one project's, `news` of all. */
export const examinedAtMost = 2_000

/**
 * A look at what came after a position. What a look may see ends before the first event, of any project, that is not
 * known to be in the stream, so that nobody passes over an event that is published late.
 */
export interface Look {
  /** All events up to this sequence were examined: the next look goes on after it. */
  readonly examined: number
  /** More events can be examined at once. */
  readonly more: boolean
}

export interface VisibleEvents extends Look {
  readonly events: ReadonlyArray<SourceEvent>
}

export interface News extends Look {
  /** The projects that have events there, each with the sequence of its last one. */
  readonly projects: ReadonlyArray<{ readonly project: ProjectHandle; readonly last: number }>
}

/**
 * The events Postgres holds, from the transaction of the fact until `EVENT_RETENTION` after their append. Sequences
 * are given here, dense from 1, before any append; any number of relays may call at once.
 */
export class Outbox extends Context.Tag("services/Outbox")<
  Outbox,
  {
    /**
     * Gives up to `limit` new events their sequences, in the order they were written, under one lock; returns them in
     * that order. In the same step `published` are recorded as by `markPublished`.
     */
    readonly sequence: (
      limit: number,
      published?: Published,
    ) => Effect.Effect<ReadonlyArray<SourceEvent>, DependencyUnavailable>
    /**
     * Sequenced events from `from` to `to`, by sequence; of these projects alone, if any are named. `unpublishedOnly`
     * leaves out those known to be in the stream.
     */
    readonly read: (options: {
      readonly from: number
      readonly to?: number | undefined
      readonly projects?: ReadonlyArray<string> | undefined
      readonly limit: number
      readonly unpublishedOnly?: boolean | undefined
    }) => Effect.Effect<ReadonlyArray<SourceEvent>, DependencyUnavailable>
    /**
     * Those of `read` that concern the caller's project and that the caller may see, at most `limit`. Examines at most
     * `examinedAtMost` events of the project, visible or not; `examined` is never below `after`.
     */
    readonly readVisible: (
      caller: ProjectCaller,
      options: { readonly after: number; readonly limit: number },
    ) => Effect.Effect<VisibleEvents, DependencyUnavailable>
    /**
     * Which projects have events after a position; without one, only where a look would begin now. One look serves any
     * number of waiting readers. `examined` is below `after` when the database knows less than it did: it was restored
     * or failed over.
     */
    readonly news: (after: number | undefined) => Effect.Effect<News, DependencyUnavailable>
    /** Records that these stand in the stream. Idempotent; never moves back. Ids, so that a renumbered event is not meant. */
    readonly markPublished: (events: Published) => Effect.Effect<void, DependencyUnavailable>
    readonly state: Effect.Effect<OutboxState, DependencyUnavailable>
    /** Those of these ids that are events which are not known to be in the stream, with a sequence or without. */
    readonly unpublished: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, DependencyUnavailable>
    /**
     * The stream, whose last sequence is `top`, is ahead of this database, which must have been restored or failed over.
     * In one step, under the lock of `sequence`: unpublished events that `standing` names take the places they have in
     * the stream and are published; all others that had a number get new ones above `top`, in order; the last sequence
     * is at least `top`. Idempotent. A place that a published event has here is not given away.
     */
    readonly raise: (top: number, standing: Published) => Effect.Effect<void, DependencyUnavailable>
    /**
     * Removes the lowest sequences, as long as they were appended more than `retentionSeconds` ago; never an unpublished
     * event, and none above one that is kept: what is retained has no gap.
     */
    readonly prune: (retentionSeconds: number, step: PruneStep) => Effect.Effect<Pruned, DependencyUnavailable>
    /** How many events wait for the stream, counted up to `countedAtMost`, and since how many seconds the oldest does. */
    readonly lag: Effect.Effect<{ readonly rows: number; readonly seconds: number }, DependencyUnavailable>
  }
>() {}
