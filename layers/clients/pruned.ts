import { Effect, Schema } from "effect"
import type { Pruned } from "../../services/Pruning.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"

const decode = decoder(Schema.Tuple(Schema.Struct({ removed: Int8, next: Schema.NullOr(Schema.String) })))

/** What a pruning statement says of itself in its one row: `removed`, and `next` or null. */
export const decodePruned = (rows: ReadonlyArray<unknown>): Effect.Effect<Pruned> =>
  Effect.map(decode(rows), ([{ next, removed }]) => ({ removed, next: next ?? undefined }))
