import { Effect } from "effect"
import { reconcile, sweep } from "../../../src/actors/Project.ts"
import type { Scene, Walk } from "../walk.ts"
import { remove } from "../worker.ts"
import { abandoned, epochOf, stored } from "./scenery.ts"

const deleting = (scene: Scene, once: boolean) =>
  Effect.flatMap(stored(scene), ({ artifact }) => scene.product(remove(scene.journal, scene.tenant, artifact.id, once)))

export const ending: ReadonlyArray<Walk> = [
  { name: "delete", run: (scene) => deleting(scene, false) },
  { name: "delete, and never ask again", whole: true, run: (scene) => deleting(scene, true) },
  {
    name: "sweep",
    run: (scene) =>
      Effect.gen(function* () {
        yield* abandoned(scene)
        const epoch = yield* scene.aside(epochOf(scene.project))
        yield* scene.product(sweep(scene.project, epoch, 0))
      }),
  },
  {
    name: "reconcile",
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        const epoch = yield* scene.aside(epochOf(scene.project))
        yield* scene.product(reconcile(scene.project, epoch))
      }),
  },
]
