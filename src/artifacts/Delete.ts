import { Effect } from "effect"
import type { ProjectCaller } from "../domain/Principal.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { Ids } from "../../services/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Wakeup } from "../../services/Wakeup.ts"

/** How long a caller waits for the object's removal; the queue goes on after that. */
const removalPatience = "2 seconds"

/**
 * Deletes an artifact: tombstone, freed books, queued removal and event in one transaction, then the object itself.
 * Succeeds once the object is gone for certain; `DependencyUnavailable` means that it is a tombstone already and its
 * removal goes on. Repeats are harmless and free nothing twice.
 */
export const deleteArtifact = Effect.fn("delete")(function* (caller: ProjectCaller, id: string) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  const blobs = yield* BlobStore
  const removals = yield* RemovalQueue
  const wakeup = yield* Wakeup
  const { blobKey, usage } = yield* metadata.remove(caller, id, yield* (yield* Ids).event).pipe(Effect.uninterruptible)
  if (usage !== undefined) {
    yield* wakeup.ring
    yield* Effect.ignoreLogged(quota.refund(caller.project, usage))
  }
  if (blobKey === undefined) return
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
