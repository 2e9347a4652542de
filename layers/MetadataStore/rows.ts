import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { DateTime, Effect, Schema } from "effect"
import { Artifact, Lineage } from "../../src/domain/Artifact.ts"
import type { Visibility } from "../../src/domain/Claim.ts"
import { type ArtifactId, Bytes, type ExternalId, type ProjectHandle, type Sha256 } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { Usage } from "../../src/domain/Quota.ts"
import { EventArtifact } from "../../src/domain/SourceEvent.ts"

type Kind = Principal["kind"]

/**
 * What an event keeps of its artifact (the SQL function event_artifact). The tables' constraints hold what it promises,
 * and it is read at every request: it is not checked again field by field.
 */
export interface EventArtifactRecord {
  readonly id: ArtifactId
  readonly project: ProjectHandle
  readonly name: string
  readonly mime: string
  readonly size: number
  readonly sha256: Sha256
  readonly visibility: Visibility
  readonly owner_kind: Kind
  readonly owner_id: ExternalId
  readonly created_by_kind: Kind
  readonly created_by_id: ExternalId
  readonly run_id: ExternalId | null
  readonly step_id: ExternalId | null
  readonly job_id: ExternalId | null
  readonly worker_session_id: ExternalId | null
  readonly attempt: number | null
  readonly created_at: string
  readonly deleted_at: string | null
  readonly deleted_by_kind: Kind | null
  readonly deleted_by_id: ExternalId | null
}
export const EventArtifactRecord = Schema.declare(
  (value: unknown): value is EventArtifactRecord => typeof value === "object" && value !== null && "sha256" in value,
)

/** What the SQL function artifact_record returns. */
export interface ArtifactRecord extends EventArtifactRecord {
  /** JSON as text. */
  readonly metadata: string
}
export const ArtifactRecord = Schema.declare(
  (value: unknown): value is ArtifactRecord => Schema.is(EventArtifactRecord)(value) && "metadata" in value,
)

const recordKeys = {
  id: true,
  project: true,
  name: true,
  mime: true,
  size: true,
  sha256: true,
  visibility: true,
  owner_kind: true,
  owner_id: true,
  created_by_kind: true,
  created_by_id: true,
  run_id: true,
  step_id: true,
  job_id: true,
  worker_session_id: true,
  attempt: true,
  metadata: true,
  created_at: true,
  deleted_at: true,
  deleted_by_kind: true,
  deleted_by_id: true,
} satisfies Readonly<Record<keyof ArtifactRecord, true>>

/** The columns of a record out of `alias`: as JSON they are what artifact_record returns, at less than half of its cost. */
export const recordColumns = (sql: SqlClient.SqlClient, alias: string): Statement.Fragment =>
  sql.literal(
    Object.keys(recordKeys)
      .map((key) => `${alias}.${key}`)
      .join(", "),
  )

/** What comes from our own tables was validated when it went in. */
export const made = { disableValidation: true }

const factsOf = (row: EventArtifactRecord) => ({
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
  createdAt: DateTime.unsafeMake(row.created_at),
  ...(row.deleted_at !== null && row.deleted_by_kind !== null && row.deleted_by_id !== null
    ? {
        deletion: {
          at: DateTime.unsafeMake(row.deleted_at),
          by: new Principal({ kind: row.deleted_by_kind, id: row.deleted_by_id }, made),
        },
      }
    : {}),
})

export const toEventArtifact = (row: EventArtifactRecord): EventArtifact => new EventArtifact(factsOf(row), made)

export const toArtifact = (row: ArtifactRecord): Artifact =>
  new Artifact({ ...factsOf(row), metadata: JSON.parse(row.metadata) }, made)

/** What the SQL function project_books returns. Bytes. */
export const Books = Schema.Struct({
  used: Bytes,
  limit: Bytes,
  count: Schema.Int,
  version: Schema.Int,
})

export const toUsage = (books: typeof Books.Type): Usage =>
  new Usage(
    {
      usedBytes: books.used,
      limitBytes: books.limit,
      artifactCount: books.count,
      version: books.version,
    },
    made,
  )

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
