import { Effect, Schema } from "effect"
import { Artifact, Lineage, Metadata } from "../../src/domain/Artifact.ts"
import { Attempt, Visibility } from "../../src/domain/Claim.ts"
import { ArtifactId, Bytes, ExternalId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { Usage } from "../../src/domain/Quota.ts"

const kind = Principal.fields.kind

/** What the SQL function artifact_record returns; also what an event keeps of its artifact. */
export const ArtifactRecord = Schema.Struct({
  id: ArtifactId,
  project: ProjectHandle,
  name: Schema.String,
  mime: Schema.String,
  size: Bytes,
  sha256: Sha256,
  visibility: Visibility,
  owner_kind: kind,
  owner_id: ExternalId,
  created_by_kind: kind,
  created_by_id: ExternalId,
  run_id: Schema.NullOr(ExternalId),
  step_id: Schema.NullOr(ExternalId),
  job_id: Schema.NullOr(ExternalId),
  worker_session_id: Schema.NullOr(ExternalId),
  attempt: Schema.NullOr(Attempt),
  metadata: Schema.parseJson(Metadata),
  created_at: Schema.DateTimeUtc,
  deleted_at: Schema.NullOr(Schema.DateTimeUtc),
  deleted_by_kind: Schema.NullOr(kind),
  deleted_by_id: Schema.NullOr(ExternalId),
})

/** A record was validated when it was decoded, and is not again. */
const made = { disableValidation: true }

export const toArtifact = (row: typeof ArtifactRecord.Type): Artifact =>
  new Artifact(
    {
      id: row.id,
      project: row.project,
      name: row.name,
      mime: row.mime,
      size: row.size,
      sha256: row.sha256,
      visibility: row.visibility,
      owner: new Principal({ kind: row.owner_kind, id: row.owner_id }, made),
      createdBy: new Principal({ kind: row.created_by_kind, id: row.created_by_id }, made),
      ...(row.job_id !== null && row.worker_session_id !== null && row.attempt !== null
        ? {
            lineage: new Lineage(
              {
                jobId: row.job_id,
                workerSessionId: row.worker_session_id,
                attempt: row.attempt,
                ...(row.run_id === null ? {} : { runId: row.run_id }),
                ...(row.step_id === null ? {} : { stepId: row.step_id }),
              },
              made,
            ),
          }
        : {}),
      metadata: row.metadata,
      createdAt: row.created_at,
      ...(row.deleted_at !== null && row.deleted_by_kind !== null && row.deleted_by_id !== null
        ? {
            deletion: {
              at: row.deleted_at,
              by: new Principal({ kind: row.deleted_by_kind, id: row.deleted_by_id }, made),
            },
          }
        : {}),
    },
    made,
  )

/** What the SQL function project_books returns. Bytes. */
export const Books = Schema.Struct({
  used: Bytes,
  limit: Bytes,
  count: Schema.Int,
  version: Schema.Int,
})

export const toUsage = (books: typeof Books.Type): Usage =>
  new Usage({
    usedBytes: books.used,
    limitBytes: books.limit,
    artifactCount: books.count,
    version: books.version,
  })

/** A row that is not as this program writes it is a defect, not something a caller could retry. */
export const decoder = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknown(schema)
  return (row: unknown): Effect.Effect<A> => Effect.orDie(decode(row))
}

/** `bigint` as the drivers give it: text from one, number or BigInt from the other. Exact below 2^53. */
export const Int8 = Schema.transform(Schema.Union(Schema.String, Schema.Number, Schema.BigIntFromSelf), Schema.Int, {
  strict: true,
  decode: (value) => Number(value),
  encode: (value) => value,
})
