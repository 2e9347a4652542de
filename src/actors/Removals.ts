import { Effect, Layer } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { dutyDone } from "../telemetry/Duties.ts"
import { traced } from "../telemetry/Spans.ts"

/** Removals taken in one round. */
const batch = 64

/** One round: removes queued objects; what fails comes again after a growing pause. Returns how many were handed out. */
export const removals = traced("Removals.round")(function* () {
  const queue = yield* RemovalQueue
  const blobs = yield* BlobStore
  const due = yield* queue.take(batch)
  yield* Effect.forEach(
    due,
    ({ attempt, blobKey }) =>
      Effect.ignoreLogged(Effect.zipRight(blobs.remove(blobKey), queue.confirm(blobKey, attempt))),
    { concurrency: 8, discard: true },
  )
  return due.length
})

/** Every pod drains the queue for itself, without a pause while there is more; a removal is one pod's at a time. */
export const layer = Layer.scopedDiscard(
  Effect.zipLeft(removals(), dutyDone("removals")).pipe(
    Effect.catchAllCause((cause) => Effect.as(Effect.logError("Removals failed and will be tried again.", cause), 0)),
    Effect.flatMap((taken) => (taken === batch ? Effect.void : Effect.sleep("1 second"))),
    Effect.forever,
    Effect.forkScoped,
  ),
)
