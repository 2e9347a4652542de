import { Schema } from "effect"
import { Bytes } from "./Ids.ts"

/**
 * A project's books as Postgres had them at one instant, in bytes. `version` rises with every change of any of them,
 * so that a late reader never overwrites a newer figure with an older one.
 */
export class Usage extends Schema.Class<Usage>("Usage")({
  usedBytes: Bytes,
  limitBytes: Bytes,
  artifactCount: Schema.Int,
  version: Schema.Int,
}) {}

/** The project has no room: `used + reserved + requested` would pass `limit`. All in bytes. */
export class QuotaExceeded extends Schema.TaggedError<QuotaExceeded>()("QuotaExceeded", {
  limitBytes: Schema.Number,
  usedBytes: Schema.Number,
  reservedBytes: Schema.Number,
  requestedBytes: Schema.Number,
}) {}
