import { Context, type Effect, type Scope } from "effect"

/**
 * The doorbell of the event relay: rung after each commit, so that an event need not wait for a poll. Rings may be
 * lost and may be merged; whoever listens looks by itself every now and then.
 */
export class Wakeup extends Context.Tag("services/Wakeup")<
  Wakeup,
  {
    /** Returns at once and never fails; the ring goes on by itself. */
    readonly ring: Effect.Effect<void>
    /**
     * Listens until the scope closes. The effect it gives returns at the next ring (rings since its last return count
     * as one), or after `millis`.
     */
    readonly listen: Effect.Effect<(millis: number) => Effect.Effect<void>, never, Scope.Scope>
  }
>() {}
