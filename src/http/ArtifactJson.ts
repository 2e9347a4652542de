import { DateTime, Schema } from "effect"
import { type Artifact, Metadata } from "../domain/Artifact.ts"

const PrincipalJson = Schema.Struct({ kind: Schema.Literal("user", "agent", "service"), id: Schema.String })

/** The artifact as the API returns it; the first six keys are the reference that other systems store. */
export const ArtifactJson = Schema.Struct({
  type: Schema.Literal("artifact"),
  id: Schema.String,
  name: Schema.String,
  mime: Schema.String,
  size: Schema.Int,
  sha256: Schema.String,
  mime_type: Schema.String,
  size_bytes: Schema.Int,
  visibility: Schema.Literal("shared", "private"),
  owner: PrincipalJson,
  created_by: Schema.String,
  run_id: Schema.optional(Schema.String),
  step_id: Schema.optional(Schema.String),
  job_id: Schema.optional(Schema.String),
  worker_session_id: Schema.optional(Schema.String),
  attempt: Schema.optional(Schema.Int),
  metadata: Metadata,
  created_at: Schema.String,
  deleted_at: Schema.optional(Schema.String),
  deleted_by: Schema.optional(Schema.String),
}).annotations({ identifier: "Artifact" })
export type ArtifactJson = typeof ArtifactJson.Type

/** RFC 3339 in UTC with milliseconds. */
export const timestamp = (time: DateTime.Utc): string => DateTime.formatIso(time)

export const encodeArtifact = (artifact: Artifact): ArtifactJson => {
  const { deletion, lineage } = artifact
  return {
    type: "artifact",
    id: artifact.id,
    name: artifact.name,
    mime: artifact.mime,
    size: artifact.size,
    sha256: artifact.sha256,
    mime_type: artifact.mime,
    size_bytes: artifact.size,
    visibility: artifact.visibility,
    owner: { kind: artifact.owner.kind, id: artifact.owner.id },
    created_by: artifact.createdBy.id,
    ...(lineage === undefined
      ? {}
      : {
          ...(lineage.runId === undefined ? {} : { run_id: lineage.runId }),
          ...(lineage.stepId === undefined ? {} : { step_id: lineage.stepId }),
          job_id: lineage.jobId,
          worker_session_id: lineage.workerSessionId,
          attempt: lineage.attempt,
        }),
    metadata: artifact.metadata,
    created_at: timestamp(artifact.createdAt),
    ...(deletion === undefined ? {} : { deleted_at: timestamp(deletion.at), deleted_by: deletion.by.id }),
  }
}
