import { Effect, Schema } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { readMark } from "../actors/Watermark.ts"
import { Findings } from "./Report.ts"

/** The blob store is not the database's own, so that comparing the two would say nothing. */
export class NotItsStore extends Schema.TaggedError<NotItsStore>()("NotItsStore", { message: Schema.String }) {}

/** The configured store carries this database's id. */
export const isItsStore = Effect.gen(function* () {
  const { id } = yield* (yield* StoreGuard).identity
  const found = yield* (yield* BlobStore).identify(id, { place: false })
  if (found === undefined)
    return yield* new NotItsStore({
      message:
        "The blob store has no store id: S3_BUCKET or DATA_DIR is not the one of this database, or no node was ever started on it.",
    })
  if (found !== id) return yield* new NotItsStore({ message: "The blob store belongs to another database." })
})

/** The database is no older than its store, nothing is held, and no removal is parked. */
export const storeIsTrusted = Effect.gen(function* () {
  const { found } = yield* Findings
  const mark = yield* readMark
  if (mark._tag === "Doubt") yield* found("database_older_than_store", { reason: mark.reason })
  const hold = yield* (yield* StoreGuard).hold
  if (hold !== undefined) yield* found("removals_held", { reason: hold.reason })
  const { parked } = yield* (yield* RemovalQueue).backlog
  if (parked > 0) yield* found("removals_parked", { removals: parked })
  return 1
})
