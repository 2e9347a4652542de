import { Chunk, DateTime, Effect, Stream } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { traced } from "../telemetry/Spans.ts"

/**
 * Lists the store for objects of at least `ageSeconds` that no row knows (written by a paused process after its upload
 * was swept) and removes them, with unfinished writes of that age.
 */
export const orphanedBlobs = traced("Orphans.orphanedBlobs")(function* (ageSeconds: number) {
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
