import { Context, type Effect } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** An object whose artifact is a tombstone and whose bytes must go. */
export interface Removal {
  readonly blobKey: string
  /** How often it was handed out, this time included. */
  readonly attempt: number
}

/** How often a removal is tried before it is parked. */
export const parkedAfter = 20

/**
 * Objects to be removed, queued in the transaction that made their artifact a tombstone. Any number of takers: a
 * removal is handed to one at a time, and again after a growing pause unless it was confirmed.
 */
export class RemovalQueue extends Context.Tag("services/RemovalQueue")<
  RemovalQueue,
  {
    /**
     * Up to `limit` due removals, each put off by an exponential pause (1 s to 5 min) before another may have it. One
     * that was handed out `parkedAfter` times is parked: its pause is an hour, and somebody should look.
     */
    readonly take: (limit: number) => Effect.Effect<ReadonlyArray<Removal>, DependencyUnavailable>
    /** The object is gone for certain. With `attempt`: unless it was handed to another since. Idempotent. */
    readonly confirm: (blobKey: string, attempt?: number) => Effect.Effect<void, DependencyUnavailable>
    /** How many wait, and how many of these are parked; each counted up to `countedAtMost`. */
    readonly backlog: Effect.Effect<{ readonly waiting: number; readonly parked: number }, DependencyUnavailable>
  }
>() {}
