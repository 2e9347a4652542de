import { Effect, Layer, Queue } from "effect"
import { Wakeup } from "../../services/Wakeup.ts"

/** Within one process; rings that nobody hears yet are kept as one. */
export const layer = Layer.effect(
  Wakeup,
  Effect.map(Queue.sliding<void>(1), (bell) =>
    Wakeup.of({
      ring: Effect.asVoid(Queue.offer(bell, undefined)),
      listen: Effect.succeed((millis) => Effect.asVoid(Effect.timeoutOption(Queue.take(bell), millis))),
    }),
  ),
)
