import { Context, type Effect } from "effect"
import type { Pruned, PruneStep } from "./Pruning.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** What the actor engine has stored of messages and replies, which it never forgets by itself. */
export class ActorMessages extends Context.Tag("services/ActorMessages")<
  ActorMessages,
  {
    /** Forgets processed messages that were sent more than `ageSeconds` ago, with their replies. */
    readonly prune: (ageSeconds: number, step: PruneStep) => Effect.Effect<Pruned, DependencyUnavailable>
  }
>() {}
