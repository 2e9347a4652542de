import { Schema } from "effect"
import { Attempt, Visibility } from "./Claim.ts"
import { ArtifactId, Bytes, ExternalId, ProjectHandle, Sha256 } from "./Ids.ts"
import { Principal } from "./Principal.ts"

/** A JSON object as the publisher gave it; stored and returned, never interpreted, and so never copied key by key. */
export type Metadata = { readonly [key: string]: unknown }
export const Metadata = Schema.declare(
  (value: unknown): value is Metadata => typeof value === "object" && value !== null && !Array.isArray(value),
  { identifier: "Metadata", jsonSchema: { type: "object", additionalProperties: true } },
)

/** What metadata is charged, in bytes: the JSON as it is kept; an empty object nothing. */
export const metadataBytes = (metadata: Metadata): number => {
  const kept = JSON.stringify(metadata)
  return kept === "{}" ? 0 : Buffer.byteLength(kept)
}

/** What a project is charged for an artifact, in bytes: its file and its metadata. */
export const chargeOf = ({ metadata, size }: { readonly metadata: Metadata; readonly size: number }): number =>
  size + metadataBytes(metadata)

/** Where an artifact comes from, as its claim said; absent altogether for lease-free uploads. */
export class Lineage extends Schema.Class<Lineage>("Lineage")({
  runId: Schema.optional(ExternalId),
  stepId: Schema.optional(ExternalId),
  jobId: ExternalId,
  workerSessionId: ExternalId,
  attempt: Attempt,
}) {}

/** One durable file. `deletion` set: a tombstone, whose bytes are gone or about to go. */
export class Artifact extends Schema.Class<Artifact>("Artifact")({
  id: ArtifactId,
  project: ProjectHandle,
  name: Schema.String,
  mime: Schema.String,
  size: Bytes,
  sha256: Sha256,
  visibility: Visibility,
  owner: Principal,
  createdBy: Principal,
  lineage: Schema.optional(Lineage),
  metadata: Metadata,
  /** The time of the commit. */
  createdAt: Schema.DateTimeUtcFromSelf,
  deletion: Schema.optional(Schema.Struct({ at: Schema.DateTimeUtcFromSelf, by: Principal })),
}) {}

/** No such artifact, or none that this caller may see. */
export class ArtifactNotFound extends Schema.TaggedError<ArtifactNotFound>()("ArtifactNotFound", {
  id: Schema.String,
}) {}

/** The artifact is ready, and the blob store answered that it does not have its bytes: they are gone for good. */
export class ContentLost extends Schema.TaggedError<ContentLost>()("ContentLost", {
  id: Schema.String,
  blobKey: Schema.String,
}) {}

/** The caller sees the thing but lacks the right; `permission` would grant it. */
export class PermissionDenied extends Schema.TaggedError<PermissionDenied>()("PermissionDenied", {
  permission: Schema.String,
}) {}
