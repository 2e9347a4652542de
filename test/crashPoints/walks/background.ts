import { Effect, Fiber } from "effect"
import { Ids } from "../../../services/Ids.ts"
import { MetadataStore } from "../../../services/MetadataStore.ts"
import { Outbox } from "../../../services/Outbox.ts"
import { StoreGuard } from "../../../services/StoreGuard.ts"
import { relay, relayRound } from "../../../src/actors/EventRelay.ts"
import { pruneClaims, pruneEvents, pruneMessages, pruneTokens } from "../../../src/actors/Pruning.ts"
import { removals } from "../../../src/actors/Removals.ts"
import { tellProjects } from "../../../src/actors/Ticks.ts"
import { markStore } from "../../../src/actors/Watermark.ts"
import type { Walk } from "../walk.ts"
import { callerOf } from "../worker.ts"
import { abandoned, appendedOnly, drained, object, rounds, stored, sweptStore, unfinished } from "./scenery.ts"

export const background: ReadonlyArray<Walk> = [
  {
    name: "tell projects of their work",
    alone: true,
    byActors: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* abandoned(scene)
        yield* scene.product(tellProjects(0, crypto.randomUUID()))
        yield* Effect.sleep("400 millis")
      }),
  },
  {
    name: "relay",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.product(rounds)
      }),
  },
  {
    name: "relay at once",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(drained)
        yield* stored(scene)
        const left = yield* scene.product(relayRound(true))
        yield* scene.product(relayRound(true, left._tag === "Moved" ? left.unmarked : []))
      }),
  },
  {
    name: "relay, and stop",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(drained)
        const relaying = yield* Effect.fork(scene.product(relay))
        yield* Effect.sleep("100 millis")
        yield* stored(scene)
        yield* Effect.sleep("150 millis")
        yield* Fiber.interrupt(relaying)
      }),
  },
  {
    name: "relay what stands already",
    alone: true,
    run: (scene) => Effect.zipRight(appendedOnly(scene), scene.product(rounds)),
  },
  {
    name: "remove queued objects",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        const { artifact } = yield* stored(scene)
        const { id } = artifact
        const { journal, project } = scene
        journal.write({ kind: "delete", project, id })
        yield* scene.aside(
          Effect.flatMap(Effect.all([MetadataStore, Effect.flatMap(Ids, (ids) => ids.event)]), ([metadata, event]) =>
            metadata.remove(callerOf(scene.tenant), id, event),
          ),
        )
        journal.write({ kind: "deleted", project, id })
        yield* scene.product(removals())
      }),
  },
  {
    name: "sweep the store",
    alone: true,
    run: (scene) =>
      Effect.scoped(
        Effect.gen(function* () {
          // As a paused process writes it, so that nothing but the listing of the store leads to it.
          scene.journal.write({ kind: "paused", project: scene.project })
          yield* scene.aside(object(`${scene.project}/nobody`))
          yield* scene.aside(unfinished(`${scene.project}/unfinished`))
          yield* scene.aside(Effect.flatMap(StoreGuard, (guard) => guard.suspect([`${scene.project}/gone`])))
          yield* Effect.sleep("20 millis")
          yield* scene.product(sweptStore)
          yield* scene.product(sweptStore)
        }),
      ),
  },
  {
    name: "mark the store",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(markStore())
        yield* stored(scene)
        yield* scene.aside(drained)
        yield* scene.product(markStore())
      }),
  },
  {
    name: "prune",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.aside(drained)
        // A relay died between this one's number and its append: it may not be pruned.
        yield* stored(scene)
        yield* scene.aside(Effect.flatMap(Outbox, (outbox) => outbox.sequence(500)))
        yield* scene.product(pruneEvents(0))
        yield* scene.product(pruneTokens)
        yield* scene.product(pruneClaims(172_800))
        yield* scene.product(pruneMessages)
      }),
  },
]
