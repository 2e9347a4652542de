import * as MessageStorage from "@effect/cluster/MessageStorage"
import * as SqlMessageStorage from "@effect/cluster/SqlMessageStorage"
import { Clock, Effect, Layer } from "effect"
import { withoutTableLock } from "./TableLock.ts"

/** For how long after a failed read messages are taken for unread, in milliseconds: longer than a statement lives. */
const doubtMillis = 10_000

/**
 * The engine's messages. Its read marks what it returns, and what is marked comes again after ten minutes only: a read
 * whose answer was lost with its connection would let a tick, and every tick after it, stand still for so long. So the
 * marks are taken back after a failed read; what is being worked on the engine knows and passes over.
 */
export const layer = Layer.effect(
  MessageStorage.MessageStorage,
  Effect.map(MessageStorage.MessageStorage, (storage) => {
    let doubtUntil = Number.NEGATIVE_INFINITY
    return MessageStorage.MessageStorage.of({
      ...storage,
      unprocessedMessages: (shards) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const ids = [...shards]
          if (now < doubtUntil) yield* storage.resetShards(ids)
          return yield* storage.unprocessedMessages(ids)
        }).pipe(
          Effect.tapError(() =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              doubtUntil = now + doubtMillis
            }),
          ),
        ),
    })
  }),
).pipe(Layer.provide(SqlMessageStorage.layer), Layer.provide(withoutTableLock))
