import { Metric } from "effect"

const counter = (name: string, description: string) =>
  Metric.counter(name, { description, incremental: true }).register()

/** What the sweep of the store did. */
export const orphansSuspected = counter(
  "artifact_orphans_suspected_total",
  "Objects that the listing of the store found and the database does not know: the first of two looks.",
)
export const orphansRemoved = counter(
  "artifact_orphans_removed_total",
  "Objects removed because two looks found them unknown to the database.",
)
export const partialsRemoved = counter(
  "artifact_partial_writes_removed_total",
  "Unfinished writes removed from the store because their upload had ended.",
)
export const listingsFinished = counter(
  "artifact_store_listings_total",
  "How often a listing of the store came to its end.",
)

/** Bytes of ready artifacts that the store does not have. */
export const contentLost = counter(
  "artifact_content_lost_total",
  "Reads of artifacts whose bytes are gone from the store for good: look with `npm run doctor`.",
)
