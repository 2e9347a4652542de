import { Schema } from "effect"
import { Artifact } from "./Artifact.ts"
import { EventId } from "./Ids.ts"

export const EventType = Schema.Literal("artifact.created", "artifact.deleted")
export type EventType = typeof EventType.Type

/**
 * The durable record of one fact. Written in the transaction of the fact; `sequence` and `receivedAt` come when the
 * relay gives it its place in the global, dense order.
 */
export class SourceEvent extends Schema.Class<SourceEvent>("SourceEvent")({
  id: EventId,
  type: EventType,
  /** The artifact as it was at the fact. */
  artifact: Artifact,
  occurredAt: Schema.DateTimeUtcFromSelf,
  receivedAt: Schema.DateTimeUtcFromSelf,
  sequence: Schema.Int.pipe(Schema.positive()),
}) {}
