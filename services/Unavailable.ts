import { Schema } from "effect"

/**
 * A dependency did not answer, or not in time: the one fault every service folds its driver's failures into.
 * Callers may retry; at the edge it is 503 with `Retry-After`. `cause` is for the log of the node, never for an answer.
 */
export class DependencyUnavailable extends Schema.TaggedError<DependencyUnavailable>()("DependencyUnavailable", {
  dependency: Schema.Literal("postgres", "redis", "blob_store", "lease_introspection"),
  operation: Schema.String,
  cause: Schema.Defect,
}) {}
