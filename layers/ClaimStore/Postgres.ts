import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { Attempt, ClaimSuperseded, LeaseInvalid, LeaseLost } from "../../src/domain/Claim.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { decodePruned } from "../clients/pruned.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder } from "../MetadataStore/rows.ts"
import { claimColumns, findByToken, firstClaim, hashOf } from "./claims.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const decodeTaken = decoder(
  Schema.Struct({
    result: Schema.Union(
      Schema.Struct({ outcome: Schema.Literal("taken", "renewed"), expires_at: Schema.DateTimeUtc }),
      Schema.Struct({ outcome: Schema.Literal("superseded"), highest_attempt: Attempt }),
      Schema.Struct({ outcome: Schema.Literal("no_project") }),
    ),
  }),
)

/** Where a pruning step begins: a time, and among rows of the same time a place in the table. */
const timeOf = (after: string | undefined) => after?.split("|")[0] ?? "-infinity"
const placeOf = (after: string | undefined) => after?.split("|")[1] ?? "(0,0)"

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ids = yield* Ids
  const lookUp = (options: Parameters<typeof findByToken>[0]) =>
    Effect.provideService(findByToken(options), SqlClient.SqlClient, sql)

  /** The token's claim, which must be this job's. */
  const ownClaim = Effect.fnUntraced(function* (
    options: Parameters<typeof findByToken>[0] & { readonly jobId: string },
  ) {
    const found = yield* lookUp(options)
    return found.row.job_id === options.jobId ? found : yield* new LeaseInvalid()
  })

  /** Looked up again: the claim may have ended since. */
  const lost = Effect.fnUntraced(function* (options: Parameters<typeof ownClaim>[0]) {
    const { reason, row } = yield* ownClaim(options)
    return yield* new LeaseLost({ jobId: row.job_id, attempt: row.attempt, reason })
  })

  return ClaimStore.of({
    put: traced("ClaimStore.put")(
      function* (claim, leaseSeconds) {
        const token = yield* ids.leaseToken
        const hash = hashOf(token)
        const { project, jobId, attempt } = claim
        // One statement: a node that is paused or dies meanwhile leaves no lock behind.
        const rows = yield* sql`
          select take_claim(${project}::text, ${jobId}::text, ${attempt}::integer, ${claim.runId ?? null}::text,
            ${claim.stepId ?? null}::text, ${claim.workerSessionId}::text, ${claim.owner.kind}::text,
            ${claim.owner.id}::text, ${claim.workerPrincipalId ?? null}::text, ${claim.visibility}::text,
            ${hash}::bytea, ${leaseSeconds}::integer) as result`
        const { result } = yield* decodeTaken(rows[0])
        switch (result.outcome) {
          case "no_project":
            return yield* new ProjectNotFound({ project })
          case "superseded":
            return yield* new ClaimSuperseded({ jobId, attempt, highestAttempt: result.highest_attempt })
          default:
            return { token, expiresAt: result.expires_at, renewed: result.outcome === "renewed" }
        }
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.put")),
    ),

    heartbeat: traced("ClaimStore.heartbeat")(
      function* (options) {
        const { row, hash } = yield* ownClaim(options)
        const rows = yield* sql`update claims
          set expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
          where project = ${row.project} and job_id = ${row.job_id} and attempt = ${row.attempt}
            and token_hash = ${hash} and ended_at is null and expires_at > clock_timestamp()
          returning ${claimColumns(sql)}, true as live`
        const prolonged = yield* firstClaim(rows)
        return prolonged?.expires_at ?? (yield* lost(options))
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.heartbeat")),
    ),

    release: traced("ClaimStore.release")(
      function* (options) {
        const { row, hash, current } = yield* ownClaim(options)
        if (current && row.released) return
        const rows = yield* sql`update claims set ended_at = clock_timestamp(), released = true
          where project = ${row.project} and job_id = ${row.job_id} and attempt = ${row.attempt}
            and token_hash = ${hash} and ended_at is null and expires_at > clock_timestamp()
          returning 1`
        if (rows.length === 0) return yield* lost(options)
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.release")),
    ),

    releaseJob: traced("ClaimStore.releaseJob")(
      function* (project, jobId) {
        const rows = yield* sql`update claims set ended_at = clock_timestamp(), released = true
          where project = ${project} and job_id = ${jobId} and ended_at is null
          returning expires_at > clock_timestamp() as live`
        return rows.some(({ live }) => live === true)
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.releaseJob")),
    ),

    pruneTokens: traced("ClaimStore.pruneTokens")(
      function* ({ after, limit }) {
        // A token younger than a day cannot be due: it was given while its claim was live. Asked one by one, so that no
        // plan reads all claims.
        const rows = yield* sql`
          with looked as materialized (
            select ctid as place, last_seen_at, project, job_id, attempt, introspected_claim is not null as elsewhere
            from lease_tokens
            where (last_seen_at, ctid) > (${timeOf(after)}::timestamptz, ${placeOf(after)}::tid)
              and last_seen_at < statement_timestamp() - interval '24 hours'
            order by last_seen_at, ctid limit ${limit}::integer
          ), gone as (
            delete from lease_tokens where ctid = any(array(
              select place from looked where case
                when elsewhere then last_seen_at < statement_timestamp() - interval '48 hours'
                else coalesce((
                  select least(ended_at, expires_at) from claims where claims.project = looked.project
                    and claims.job_id = looked.job_id and claims.attempt = looked.attempt), '-infinity')
                  < statement_timestamp() - interval '24 hours'
              end))
            returning 1
          )
          select (select count(*) from gone) as removed,
            case when count(*) = ${limit}::integer
              then (array_agg(last_seen_at || '|' || place order by last_seen_at desc, place desc))[1] end as next
          from looked`
        return yield* decodePruned(rows)
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.pruneTokens")),
    ),

    pruneClaims: traced("ClaimStore.pruneClaims")(
      function* (retentionSeconds, { after, limit }) {
        // In one step with their removal the attempts go where take_claim looks for those of forgotten claims.
        const rows = yield* sql`
          with looked as materialized (
            select ctid as place, taken_at, least(ended_at, expires_at) as ended from claims
            where (taken_at, ctid) > (${timeOf(after)}::timestamptz, ${placeOf(after)}::tid)
              and taken_at < statement_timestamp() - ${retentionSeconds}::double precision * interval '1 second'
            order by taken_at, ctid limit ${limit}::integer
          ), gone as (
            delete from claims where ctid = any(array(
              select place from looked
              where ended < statement_timestamp() - ${retentionSeconds}::double precision * interval '1 second'))
            returning project, job_id, attempt
          ), kept as (
            insert into job_attempts as known (project, job_id, highest_attempt)
            select project, job_id, max(attempt) from gone group by project, job_id order by project, job_id
            on conflict (project, job_id) do update
              set highest_attempt = greatest(known.highest_attempt, excluded.highest_attempt)
          )
          select (select count(*) from gone) as removed,
            case when count(*) = ${limit}::integer
              then (array_agg(taken_at || '|' || place order by taken_at desc, place desc))[1] end as next
          from looked`
        return yield* decodePruned(rows)
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.pruneClaims")),
    ),
  })
})

export const layer = Layer.effect(ClaimStore, make)
