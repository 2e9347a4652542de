import { Context, type Effect, type Stream } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** One entry of the stream; `payload` is the event's JSON as consumers read it. */
export interface BusEntry {
  readonly sequence: number
  /** `sevt_…` */
  readonly id: string
  readonly type: string
  readonly project: string
  readonly payload: string
}

export type Appended =
  | { readonly _tag: "Appended" }
  /** Nothing was added: the stream's last generated sequence is `top`, not what was expected. */
  | { readonly _tag: "Elsewhere"; readonly top: number }

/** The one ordered stream of all projects' events. Trimmed approximately to a maximal length. */
export class EventBus extends Context.Tag("services/EventBus")<
  EventBus,
  {
    /** The last generated sequence, 0 for a new stream. Survives trimming. */
    readonly top: Effect.Effect<number, DependencyUnavailable>
    /**
     * Adds the entries (sequences consecutive, the first above `expectedTop`) if and only if the stream's last
     * generated sequence is `expectedTop` at that instant. All or none, atomic. This is what makes repeats and
     * second relays harmless.
     */
    readonly append: (
      expectedTop: number,
      entries: ReadonlyArray<BusEntry>,
    ) => Effect.Effect<Appended, DependencyUnavailable>
    /** The event id that stands at a sequence, if it is still there. */
    readonly idAt: (sequence: number) => Effect.Effect<string | undefined, DependencyUnavailable>
    /** What stands in the stream from a sequence on, by sequence, at most `limit` entries; trimmed ones are left out. */
    readonly standing: (
      from: number,
      limit: number,
    ) => Effect.Effect<ReadonlyArray<Pick<BusEntry, "sequence" | "id">>, DependencyUnavailable>
    /** Entries above `after`, first those already there, then live ones, in order, each once. Ends only by failure. */
    readonly subscribe: (after: number) => Stream.Stream<BusEntry, DependencyUnavailable>
    /** How many entries the stream is trimmed to, approximately. */
    readonly maxLength: number
    readonly ping: Effect.Effect<void, DependencyUnavailable>
  }
>() {}
