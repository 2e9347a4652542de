import { Effect, Layer, Schema } from "effect"
import { BlobStore } from "../services/BlobStore.ts"
import { StoreGuard } from "../services/StoreGuard.ts"
import { DependencyUnavailable } from "../services/Unavailable.ts"
import { checkWatermark } from "./actors/Watermark.ts"

/** The database and the blob store do not belong together. */
export class StoreMismatch extends Schema.TaggedError<StoreMismatch>()("StoreMismatch", {
  message: Schema.String,
}) {}

const foreign = new StoreMismatch({
  message:
    "The blob store belongs to another database: S3_BUCKET or DATA_DIR must be the one this DATABASE_URL was first used with.",
})

const empty = new StoreMismatch({
  message:
    "The blob store has no store id, though this database has placed one: S3_BUCKET is another bucket, or DATA_DIR is " +
    "not the folder that all pods share. If the store was moved on purpose, run `npm run doctor -- --place-store-id`.",
})

/** Shorter than the transaction it runs in may take. */
const placingMost = "8 seconds"

/** Gives the store the database's identity; fails when it has another one. */
export const placeStoreId = (id: string) =>
  Effect.gen(function* () {
    if ((yield* (yield* BlobStore).identify(id, { place: true })) !== id) return yield* foreign
  })

/**
 * Refuses to start on a blob store that is not this database's own: a wrong bucket, or a folder that the pods do not
 * share. The identity is made by the database and written into the store once: of two pods that start first, with
 * different stores, one places it and the other is refused. Then the store's watermark is held against the database.
 */
export const checkStoreIdentity = Layer.effectDiscard(
  Effect.gen(function* () {
    const guard = yield* StoreGuard
    const blobs = yield* BlobStore
    const { id, placed } = yield* guard.identity
    if (!placed)
      yield* guard.placeOnce((own) =>
        Effect.timeoutFail(Effect.provideService(placeStoreId(own), BlobStore, blobs), {
          duration: placingMost,
          onTimeout: () =>
            new DependencyUnavailable({
              dependency: "blob_store",
              operation: "identify",
              cause: new Error("no answer in time"),
            }),
        }),
      )
    const found = yield* blobs.identify(id, { place: false })
    if (found === undefined) return yield* empty
    if (found !== id) return yield* foreign
    yield* checkWatermark()
  }),
)
