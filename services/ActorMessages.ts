import { Context, type Effect } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** What the actor engine has stored of messages and replies, which it never forgets by itself. */
export class ActorMessages extends Context.Tag("services/ActorMessages")<
  ActorMessages,
  {
    /** Forgets messages processed more than `ageSeconds` after they were sent, with their replies; returns how many. */
    readonly prune: (ageSeconds: number) => Effect.Effect<number, DependencyUnavailable>
  }
>() {}
