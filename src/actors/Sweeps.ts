import { Chunk, DateTime, Effect, Stream } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"

/**
 * Ends uploads whose owner has been silent for `staleSeconds`: fenced first, so that no commit can succeed, then the
 * room is given back, the bytes removed and the row forgotten. A running upload renews itself and is never touched.
 */
export const abandonedUploads = Effect.fn("Sweeps.abandonedUploads")(function* (staleSeconds: number) {
  const metadata = yield* MetadataStore
  const blobs = yield* BlobStore
  const quota = yield* QuotaCounters
  const stale = yield* metadata.fenceStale({ staleSeconds, limit: 200 })
  yield* Effect.forEach(
    stale,
    ({ blobKey, id, project }) =>
      quota
        .release(project, id)
        .pipe(
          Effect.ignoreLogged,
          Effect.zipRight(blobs.remove(blobKey)),
          Effect.zipRight(metadata.forget(id)),
          Effect.ignoreLogged,
        ),
    { concurrency: 8, discard: true },
  )
  return stale.length
})

/**
 * Lists the store for objects of at least `ageSeconds` that no row knows (written by a paused process after its upload
 * was swept) and removes them, with unfinished writes of that age.
 */
export const orphanedBlobs = Effect.fn("Sweeps.orphanedBlobs")(function* (ageSeconds: number) {
  const metadata = yield* MetadataStore
  const blobs = yield* BlobStore
  const before = DateTime.subtract(yield* DateTime.now, { seconds: ageSeconds })
  yield* blobs.removePartials({ before })
  return yield* blobs.list({ before }).pipe(
    Stream.grouped(500),
    Stream.mapEffect((group) => metadata.unknownBlobKeys(Chunk.toReadonlyArray(group).map(({ key }) => key))),
    Stream.runFoldEffect(0, (count, keys) =>
      Effect.as(Effect.forEach(keys, blobs.remove, { concurrency: 8, discard: true }), count + keys.length),
    ),
  )
})

/** Removes queued objects; what fails comes again after a growing pause. Returns how many were handed out. */
export const removals = Effect.fn("Sweeps.removals")(function* () {
  const queue = yield* RemovalQueue
  const blobs = yield* BlobStore
  const due = yield* queue.take(64)
  yield* Effect.forEach(
    due,
    ({ blobKey }) => Effect.ignoreLogged(Effect.zipRight(blobs.remove(blobKey), queue.confirm(blobKey))),
    { concurrency: 8, discard: true },
  )
  return due.length
})

/** Holds every project's counters against its books. */
export const reconcile = Effect.fn("Sweeps.reconcile")(function* () {
  const quota = yield* QuotaCounters
  const projects = yield* (yield* ProjectStore).all
  yield* Effect.forEach(projects, (project) => Effect.ignoreLogged(quota.rebuild(project)), {
    concurrency: 4,
    discard: true,
  })
  return projects.length
})

/** Forgets events past their retention and tokens a day past their claim's end. */
export const prune = Effect.fn("Sweeps.prune")(function* (eventRetentionSeconds: number) {
  const events = yield* (yield* Outbox).prune(eventRetentionSeconds)
  const tokens = yield* (yield* ClaimStore).prune
  return events + tokens
})
