import { DateTime } from "effect"
import type { SourceEvent } from "./SourceEvent.ts"

/** A source event as consumers read it, in the stream, over SSE and from the admin route; absent values are left out. */
export const encodeSourceEvent = (event: SourceEvent) => {
  const { artifact } = event
  const { lineage } = artifact
  return {
    event_type: event.type,
    source_kind: "artifact",
    source_id: artifact.id,
    event: {
      type: "artifact",
      id: artifact.id,
      name: artifact.name,
      mime: artifact.mime,
      size: artifact.size,
      sha256: artifact.sha256,
    },
    meta: {
      id: event.id,
      event_type: event.type,
      source_kind: "artifact",
      source_id: artifact.id,
      project: artifact.project,
      artifact_id: artifact.id,
      ...(lineage?.runId !== undefined && { loop_run_id: lineage.runId }),
      ...(lineage?.stepId !== undefined && { step_id: lineage.stepId }),
      ...(lineage !== undefined && { job_id: lineage.jobId, attempt: lineage.attempt }),
      content_type: artifact.mime,
      visibility: artifact.visibility,
      owner: { kind: artifact.owner.kind, id: artifact.owner.id },
      occurred_at: DateTime.formatIso(event.occurredAt),
      received_at: DateTime.formatIso(event.receivedAt),
      sequence: event.sequence,
    },
  }
}
