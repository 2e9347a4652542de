import { Effect, Fiber } from "effect"
import type { ProjectCaller } from "../domain/Principal.ts"
import { concerning } from "../telemetry/Subject.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { Ids } from "../../services/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import { traced } from "../telemetry/Spans.ts"
import { inTurn, writing } from "../turns/Turns.ts"

/** How long a caller waits for the object's removal; the queue goes on after that. */
const removalPatience = "2 seconds"

/**
 * Deletes an artifact: tombstone, freed books, queued removal and event in one transaction, then the object itself.
 * Succeeds once the object is gone for certain; `DependencyUnavailable` means that it is a tombstone already and its
 * removal goes on. Repeats are harmless and free nothing twice.
 */
export const deleteArtifact = traced("delete")(function* (caller: ProjectCaller, id: string) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  const wakeup = yield* Wakeup
  yield* concerning({ project: caller.project, artifactId: id })
  const { blobKey, refunding } = yield* Effect.gen(function* () {
    const removing = metadata.remove(caller, id, yield* (yield* Ids).event)
    const { blobKey, usage } = yield* inTurn(caller.project, writing, removing)
    if (usage === undefined) return { blobKey, refunding: undefined }
    yield* Effect.logDebug("deleted")
    yield* wakeup.ring
    // Not part of the request: the counters hear of it also when the caller does not stay.
    return { blobKey, refunding: yield* Effect.forkDaemon(Effect.ignoreLogged(quota.refund(caller.project, usage))) }
  }).pipe(Effect.uninterruptible)
  // A Redis that is away does not hold up what needs none: the counters ask for the usage before they refuse.
  if (blobKey !== undefined) yield* removed(blobKey)
  if (refunding !== undefined) yield* Fiber.join(refunding)
})

/** The object is gone for certain, or `DependencyUnavailable` after the patience. */
const removed = Effect.fnUntraced(function* (blobKey: string) {
  const blobs = yield* BlobStore
  const removals = yield* RemovalQueue
  yield* blobs.remove(blobKey).pipe(
    Effect.zipRight(removals.confirm(blobKey)),
    Effect.disconnect,
    Effect.timeoutFail({
      duration: removalPatience,
      onTimeout: () =>
        new DependencyUnavailable({
          dependency: "blob_store",
          operation: "remove",
          cause: new Error("no answer in time"),
        }),
    }),
  )
})
