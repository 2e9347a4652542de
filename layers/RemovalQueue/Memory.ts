import { Effect, Layer } from "effect"
import { countedAtMost } from "../../services/Counting.ts"
import { parkedAfter, RemovalQueue } from "../../services/RemovalQueue.ts"
import { atomically, MemoryDatabase } from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** 1 s, 2 s, 4 s … at most 5 min; an hour for those that are parked. */
const pauseMillis = (attempt: number) =>
  attempt >= parkedAfter ? 3_600_000 : Math.min(300_000, 1_000 * 2 ** (attempt - 1))

export const layer = Layer.effect(
  RemovalQueue,
  Effect.map(MemoryDatabase, (state) => ({
    take: traced("RemovalQueue.take")((limit) =>
      atomically((now) =>
        Effect.succeed(
          [...state.removals]
            .filter(([, row]) => row.dueAt <= now)
            .sort(([, a], [, b]) => a.dueAt - b.dueAt)
            .slice(0, limit)
            .map(([blobKey, row]) => {
              row.attempt++
              row.dueAt = now + pauseMillis(row.attempt)
              return { blobKey, attempt: row.attempt }
            }),
        ),
      ),
    ),
    confirm: traced("RemovalQueue.confirm")((blobKey, attempt) =>
      Effect.sync(() => {
        if (attempt === undefined || state.removals.get(blobKey)?.attempt === attempt) state.removals.delete(blobKey)
      }),
    ),
    backlog: Effect.sync(() => ({
      waiting: Math.min(countedAtMost, state.removals.size),
      parked: Math.min(countedAtMost, [...state.removals.values()].filter((row) => row.attempt >= parkedAfter).length),
    })),
  })),
)
