import { Effect, Layer, Schema } from "effect"
import { BlobStore } from "../services/BlobStore.ts"
import { MetadataStore } from "../services/MetadataStore.ts"

/** The database and the blob store belong to different deployments. */
export class StoreMismatch extends Schema.TaggedError<StoreMismatch>()("StoreMismatch", {
  message: Schema.String,
}) {}

/**
 * Refuses to start on a blob store that is not this database's own: a wrong bucket, or a folder that the pods do not
 * share. The identity is made by the database and written into the store once.
 */
export const checkStoreIdentity = Layer.effectDiscard(
  Effect.gen(function* () {
    const expected = yield* (yield* MetadataStore).storeId
    const found = yield* (yield* BlobStore).identify(expected)
    if (found !== expected)
      return yield* new StoreMismatch({
        message:
          "The blob store belongs to another database: S3_BUCKET or DATA_DIR must be the one this DATABASE_URL was first used with.",
      })
  }),
)
