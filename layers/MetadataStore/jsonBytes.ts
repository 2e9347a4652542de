import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import type { Artifact } from "../../src/domain/Artifact.ts"

/** Keys, ids, digest, times and numbers of an artifact's JSON together, at the most; half of it is slack. */
const fixedBytes = 1024

/**
 * A bound of the bytes that an artifact takes in the JSON of a page: its metadata as they are kept, and the other texts
 * that callers choose twice, for each character may need a backslash. The media type is said twice.
 */
export const mostJsonBytes = ({ createdBy, deletion, lineage, metadata, mime, name, owner }: Artifact): number => {
  const texts = [name, mime, mime, owner.id, createdBy.id, deletion?.by.id ?? ""]
  if (lineage !== undefined)
    texts.push(lineage.runId ?? "", lineage.stepId ?? "", lineage.jobId, lineage.workerSessionId)
  return fixedBytes + Buffer.byteLength(JSON.stringify(metadata)) + 2 * Buffer.byteLength(texts.join(""))
}

/** `mostJsonBytes` of a row, named `alias`. Of a text that is kept apart from its row, Postgres knows the length unread. */
export const mostJsonBytesSql = (sql: SqlClient.SqlClient, alias: string): Statement.Fragment => {
  const texts = ["name", "mime", "mime", "owner_id", "created_by_id", "deleted_by_id"]
  const lineage = ["run_id", "step_id", "job_id", "worker_session_id"]
  const columns = [...texts, ...lineage].map((column) => `${alias}.${column}`).join(", ")
  return sql.literal(
    `${fixedBytes} + coalesce(octet_length(${alias}.metadata), 0) + 2 * octet_length(concat(${columns}))`,
  )
}
