import { hash as sha256, timingSafeEqual } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Effect, Redacted, Schema } from "effect"
import { Attempt, Claim, LeaseInvalid, Visibility } from "../../src/domain/Claim.ts"
import { ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"

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

/** The columns of a ClaimRow out of `alias`, all but `live`. */
export const claimColumns = (sql: SqlClient.SqlClient, alias: string): Statement.Fragment =>
  sql.literal(
    Object.keys(ClaimRow.omit("live").fields)
      .map((column) => `${alias}.${column}`)
      .join(", "),
  )

/** One claim's row, decoded; `undefined` when the statement found none. */
export const firstClaim = (rows: ReadonlyArray<unknown>) => Effect.map(Effect.orDie(decode(rows)), ([row]) => row)

/**
 * The claim a token was ever given for, and whether it is the token that is good now. `LeaseInvalid`: unknown, another
 * project's, or another worker's.
 */
export const findByToken = Effect.fnUntraced(function* (options: {
  readonly project: string
  readonly principal: Principal
  readonly token: Redacted.Redacted
}) {
  const sql = yield* SqlClient.SqlClient
  const hash = hashOf(options.token)
  const rows = yield* sql`
    select ${claimColumns(sql, "claims")}, ended_at is null and claims.expires_at > clock_timestamp() as live
    from lease_tokens join claims using (project, job_id, attempt)
    where lease_tokens.token_hash = ${hash} and project = ${options.project}`
  const row = yield* firstClaim(rows)
  if (row === undefined) return yield* new LeaseInvalid()
  if (row.worker_principal_id !== null && row.worker_principal_id !== options.principal.id)
    return yield* new LeaseInvalid()
  const current = timingSafeEqual(hash, row.token_hash)
  return { row, hash, current, live: current && row.live }
})
