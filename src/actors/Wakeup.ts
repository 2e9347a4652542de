import { Context, Effect, Layer, Queue } from "effect"

/**
 * An in-process doorbell for the event relay: rung after each commit, so that an event need not wait for a poll. Lossy
 * and never needed for correctness.
 */
export class Wakeup extends Context.Tag("src/actors/Wakeup")<
  Wakeup,
  {
    readonly ring: Effect.Effect<void>
    /** Returns at the next ring (one rung since the last call counts), or after `millis`. */
    readonly await: (millis: number) => Effect.Effect<void>
  }
>() {}

export const layer = Layer.effect(
  Wakeup,
  Effect.map(Queue.sliding<void>(1), (bell) =>
    Wakeup.of({
      ring: Effect.asVoid(Queue.offer(bell, undefined)),
      await: (millis) => Effect.asVoid(Effect.timeoutOption(Queue.take(bell), millis)),
    }),
  ),
)
