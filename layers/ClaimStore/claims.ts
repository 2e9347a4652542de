import { hash as sha256, timingSafeEqual } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Effect, Redacted, Schema } from "effect"
import { Attempt, Claim, LeaseEnd, LeaseInvalid, LeaseLost, Visibility } from "../../src/domain/Claim.ts"
import { ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import type { UploadRight } from "../../services/MetadataStore.ts"

export const hashOf = (token: Redacted.Redacted): Buffer => sha256("sha256", Redacted.value(token), "buffer")

export const ClaimRow = Schema.Struct({
  project: ProjectHandle,
  job_id: ExternalId,
  attempt: Attempt,
  run_id: Schema.NullOr(ExternalId),
  step_id: Schema.NullOr(ExternalId),
  worker_session_id: ExternalId,
  owner_kind: Principal.fields.kind,
  owner_id: ExternalId,
  worker_principal_id: Schema.NullOr(ExternalId),
  visibility: Visibility,
  released: Schema.Boolean,
  /** What ended it first, or will. */
  ended_by: LeaseEnd,
  /** Not ended and not expired, by the database's clock. */
  live: Schema.Boolean,
  /** The hash of the one token that is good now. */
  token_hash: Schema.Uint8ArrayFromSelf,
  expires_at: Schema.DateTimeUtcFromDate,
})
export type ClaimRow = typeof ClaimRow.Type

export const claimOf = (row: ClaimRow): Claim =>
  new Claim({
    project: row.project,
    jobId: row.job_id,
    attempt: row.attempt,
    workerSessionId: row.worker_session_id,
    ...(row.run_id !== null && { runId: row.run_id }),
    ...(row.step_id !== null && { stepId: row.step_id }),
    owner: new Principal({ kind: row.owner_kind, id: row.owner_id }),
    ...(row.worker_principal_id !== null && { workerPrincipalId: row.worker_principal_id }),
    visibility: row.visibility,
  })

/** Equal in every field that a holder of the job could have stated differently. */
export const sameClaim = (a: Claim, b: Claim): boolean =>
  a.project === b.project &&
  a.jobId === b.jobId &&
  a.attempt === b.attempt &&
  a.workerSessionId === b.workerSessionId &&
  a.runId === b.runId &&
  a.stepId === b.stepId &&
  a.owner.kind === b.owner.kind &&
  a.owner.id === b.owner.id &&
  a.workerPrincipalId === b.workerPrincipalId &&
  a.visibility === b.visibility

const decode = Schema.decodeUnknown(Schema.Array(ClaimRow))

/** SQL: what ended a row of claims first, or will. */
const endedBy = `case when claims.ended_at is null or claims.expires_at <= claims.ended_at then 'expired'
  when claims.released then 'released' else 'superseded' end`

/** The columns of a ClaimRow out of `claims`, all but `live`. */
export const claimColumns = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(
    Object.keys(ClaimRow.omit("live").fields)
      .map((column) => (column === "ended_by" ? `${endedBy} as ended_by` : `claims.${column}`))
      .join(", "),
  )

/** One claim's row, decoded; `undefined` when the statement found none. */
export const firstClaim = (rows: ReadonlyArray<unknown>) => Effect.map(Effect.orDie(decode(rows)), ([row]) => row)

/**
 * The claim a token was ever given for, whether it is the token that is good now, and what ended the lease if it has ended.
 * `LeaseInvalid`: unknown, another project's, or another worker's.
 */
export const findByToken = Effect.fnUntraced(function* (options: {
  readonly project: string
  readonly principal: Principal
  readonly token: Redacted.Redacted
}) {
  const sql = yield* SqlClient.SqlClient
  const hash = hashOf(options.token)
  const rows = yield* sql`
    select ${claimColumns(sql)}, ended_at is null and claims.expires_at > clock_timestamp() as live
    from lease_tokens join claims using (project, job_id, attempt)
    where lease_tokens.token_hash = ${hash} and project = ${options.project}`
  const row = yield* firstClaim(rows)
  if (row === undefined) return yield* new LeaseInvalid()
  if (row.worker_principal_id !== null && row.worker_principal_id !== options.principal.id)
    return yield* new LeaseInvalid()
  const current = timingSafeEqual(hash, row.token_hash)
  const reason: LeaseEnd = current ? row.ended_by : "superseded"
  return { row, hash, current, live: current && row.live, reason }
})

const decodeReasons = Schema.decodeUnknown(Schema.Array(Schema.Struct({ reason: Schema.NullOr(LeaseEnd) })))

/** Fails with the refusal of a claim that is not held any more, with what ended it, as far as the database answers. */
export const leaseLost = Effect.fnUntraced(function* ({
  lease,
  lineage,
  project,
}: Pick<UploadRight, "lease" | "lineage" | "project">) {
  if (lineage === undefined) return yield* new LeaseLost({})
  const { attempt, jobId } = lineage
  if (lease?._tag !== "ClaimRow") return yield* new LeaseLost({ jobId, attempt })
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql`
    select case when token_hash <> ${Buffer.from(lease.tokenHash)}::bytea then 'superseded'
      when ended_at is null and expires_at > clock_timestamp() then null
      else ${sql.literal(endedBy)} end as reason
    from claims where project = ${project} and job_id = ${jobId} and attempt = ${attempt}`.pipe(
    Effect.flatMap(decodeReasons),
    Effect.orElseSucceed(() => []),
  )
  return yield* new LeaseLost({ jobId, attempt, reason: row?.reason ?? undefined })
})
