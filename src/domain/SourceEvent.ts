import { Schema } from "effect"
import { Artifact } from "./Artifact.ts"
import { EventId } from "./Ids.ts"

export const EventType = Schema.Literal("artifact.created", "artifact.deleted")
export type EventType = typeof EventType.Type

const { metadata: _, ...facts } = Artifact.fields

/** What an event keeps of its artifact: everything but its metadata, which events never carry or load. */
export class EventArtifact extends Schema.Class<EventArtifact>("EventArtifact")(facts) {
  static of(artifact: Artifact): EventArtifact {
    const { metadata: _, ...facts } = artifact
    return new EventArtifact(facts)
  }
}

/**
 * The durable record of one fact. Written in the transaction of the fact; `sequence` and `receivedAt` come when the
 * relay gives it its place in the global, dense order.
 */
export class SourceEvent extends Schema.Class<SourceEvent>("SourceEvent")({
  id: EventId,
  type: EventType,
  /** The artifact as it was at the fact. */
  artifact: EventArtifact,
  occurredAt: Schema.DateTimeUtcFromSelf,
  receivedAt: Schema.DateTimeUtcFromSelf,
  sequence: Schema.Int.pipe(Schema.positive()),
}) {}
