import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { eventId, newProject, published, Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("RemovalQueue under concurrency, native Postgres", (it) => {
    it.effect("takers at once share the queue, and the pause doubles up to 5 min", () =>
      Effect.gen(function* () {
        const queue = yield* RemovalQueue
        const store = yield* MetadataStore
        const scene = yield* Scene
        const caller = yield* newProject()
        const made = yield* Effect.replicateEffect(published(caller), 20)
        for (const { id } of made) yield* store.remove(caller, id, eventId())
        const takes = yield* Effect.all(
          Array.from({ length: 8 }, () => queue.take(5)),
          { concurrency: 8 },
        )
        const rest = yield* queue.take(100)
        const keys = [...takes.flat(), ...rest].map(({ blobKey }) => blobKey)
        expect(keys.toSorted()).toEqual(made.map(({ id }) => id as string).toSorted())
        const pauses: Array<number> = []
        for (let attempt = 2; attempt <= 12; attempt++) {
          yield* scene.run("update removals set next_attempt_at = clock_timestamp()")
          expect((yield* queue.take(100)).map((taken) => taken.attempt)).toEqual(made.map(() => attempt))
          const [row] = yield* scene.run(
            `select round(extract(epoch from max(next_attempt_at) - clock_timestamp()))::int as pause from removals`,
          )
          pauses.push(Number(row?.["pause"]))
        }
        expect(pauses).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
      }),
    )
  })
