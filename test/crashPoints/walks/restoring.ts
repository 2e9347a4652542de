import { Effect } from "effect"
import { BlobStore } from "../../../services/BlobStore.ts"
import { EventBus } from "../../../services/EventBus.ts"
import { Ids } from "../../../services/Ids.ts"
import { Outbox } from "../../../services/Outbox.ts"
import { acceptRestore, checkWatermark } from "../../../src/actors/Watermark.ts"
import { factsOfStream } from "../facts.ts"
import { stream } from "../stacks.ts"
import type { Scene, Walk } from "../walk.ts"
import { appendedOnly, drained, rounds, stored, sweptStore, unfinished } from "./scenery.ts"

/** What was pruned stands in the stream alone, so it is gone with it. */
const forgetting = ({ journal }: Scene) =>
  Effect.gen(function* () {
    const { oldestRetained = Infinity } = yield* (yield* Outbox).state
    for (const { fact, sequence } of yield* factsOfStream)
      if (sequence < oldestRetained) journal.write({ kind: "forgotten", fact })
  })

/** Last, because they leave numbers behind that are not dense. */
export const restoring: ReadonlyArray<Walk> = [
  {
    name: "meet a store of a newer database",
    alone: true,
    run: (scene) =>
      Effect.scoped(
        Effect.gen(function* () {
          const mark = { mark: crypto.randomUUID(), sequence: 1, made_at: "2026-01-01T00:00:00.000Z" }
          yield* scene.aside(Effect.flatMap(BlobStore, (blobs) => blobs.setWatermark(JSON.stringify(mark))))
          yield* scene.aside(unfinished(`${scene.project}/unfinished`))
          yield* Effect.sleep("20 millis")
          yield* scene.product(checkWatermark())
          yield* scene.product(sweptStore)
          yield* scene.product(acceptRestore)
        }),
      ),
  },
  {
    name: "meet a stream that is ahead",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        const { journal, project } = scene
        yield* scene.aside(drained)
        yield* scene.aside(
          Effect.gen(function* () {
            const bus = yield* EventBus
            const id = yield* (yield* Ids).event
            const sequence = (yield* bus.top) + 1
            journal.write({ kind: "foreign", id })
            const payload = JSON.stringify({ event_type: "artifact.created", source_id: "foreign", meta: { id } })
            yield* bus.append(sequence - 1, [{ sequence, id, type: "artifact.created", project, payload }])
          }),
        )
        yield* stored(scene)
        yield* scene.product(rounds)
      }),
  },
  {
    name: "meet a stream that lost everything",
    alone: true,
    only: { stack: "production", why: "a stream in the database cannot be lost alone" },
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.aside(drained)
        yield* scene.aside(forgetting(scene))
        yield* stream(scene.home).lose
        yield* scene.product(rounds)
      }),
  },
  {
    name: "meet a stream that lost an entry",
    alone: true,
    only: { stack: "production", why: "a stream in the database cannot be lost alone" },
    run: (scene) =>
      Effect.gen(function* () {
        const [first] = yield* appendedOnly(scene)
        yield* stream(scene.home).loseEntry(first?.sequence ?? 0)
        yield* scene.product(rounds)
      }),
  },
]
