import { expect, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { inject } from "vitest"
import { Outbox } from "../../services/Outbox.ts"
import { newProject, published, Scene, sceneLayer, waiting } from "./postgresScene.ts"

const url = inject("postgresUrl")

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("Outbox under concurrency, native Postgres", (it) => {
    it.effect("many relays number events at once while they are written: dense, once each, each project in order", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const callers = yield* Effect.all([newProject(), newProject(), newProject()])
        const write = Effect.forEach(callers, (caller) => Effect.replicateEffect(published(caller), 20), {
          concurrency: 3,
        })
        const relay = Effect.replicateEffect(outbox.sequence(3), 20)
        const [made] = yield* Effect.all([write, relay, relay, relay], { concurrency: 4 })
        yield* outbox.sequence(1000)
        const events = yield* outbox.read({ from: 1, limit: 1000 })
        expect(events.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1))
        for (const [index, caller] of callers.entries())
          expect(
            events.filter(({ artifact }) => artifact.project === caller.project).map((e) => e.artifact.id),
          ).toEqual(made[index]?.map(({ id }) => id))
      }),
    )

    it.effect("a relay that waited for the lock sees what was committed meanwhile, and never renumbers", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const scene = yield* Scene
        yield* outbox.sequence(1000)
        const { lastSequence } = yield* outbox.state
        const caller = yield* newProject()
        const first = yield* published(caller)
        const holder = yield* scene.open
        yield* holder.run("begin")
        yield* holder.run("select 1 from event_sequence for update")
        const fiber = yield* Effect.fork(outbox.sequence(1000))
        yield* waiting(1)
        const { id } = yield* published(caller)
        yield* holder.run("commit")
        expect((yield* Fiber.join(fiber)).map(({ artifact }) => artifact.id)).toEqual([first.id, id])
        expect((yield* outbox.read({ from: lastSequence + 1, limit: 9 })).map(({ artifact }) => artifact.id)).toEqual([
          first.id,
          id,
        ])
      }).pipe(Effect.scoped),
    )

    it.effect("raised by several relays at once, the numbers follow the top without a gap", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const caller = yield* newProject()
        yield* outbox.sequence(1000)
        yield* outbox.markPublished(yield* outbox.read({ from: 1, limit: 1000 }))
        yield* Effect.replicateEffect(published(caller), 4)
        yield* outbox.sequence(1000)
        const { lastSequence } = yield* outbox.state
        for (const top of [lastSequence - 2, lastSequence + 1000]) {
          yield* Effect.all(
            Array.from({ length: 4 }, () => outbox.raise(top, [])),
            { concurrency: 4 },
          )
          const events = yield* outbox.read({ from: 1, limit: 1000, unpublishedOnly: true })
          expect(events.map(({ sequence }) => sequence)).toEqual([top + 1, top + 2, top + 3, top + 4])
          expect((yield* outbox.state).lastSequence).toBe(top + 4)
        }
      }),
    )
  })
