import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer } from "effect"
import { ClaimSuperseded, LeaseInvalid, LeaseLost } from "../../src/domain/Claim.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { claimColumns, claimOf, findByToken, firstClaim, hashOf, sameClaim } from "./claims.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"

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

  return ClaimStore.of({
    put: traced("ClaimStore.put")(
      function* (claim, leaseSeconds) {
        const token = yield* ids.leaseToken
        const hash = hashOf(token)
        const { project, jobId, attempt } = claim
        return yield* sql.withTransaction(
          Effect.gen(function* () {
            const known = yield* sql`select 1 from projects where handle = ${project}`
            if (known.length === 0) return yield* new ProjectNotFound({ project })
            // Takers of one job go one after the other; the handle cannot contain the separator.
            yield* sql`select pg_advisory_xact_lock(hashtextextended(${`${project}/${jobId}`}, 0))`
            const highest = yield* firstClaim(
              yield* sql`select ${claimColumns(sql, "claims")}, ended_at is null and expires_at > clock_timestamp() as live from claims
                where project = ${project} and job_id = ${jobId} order by attempt desc limit 1`,
            )
            const renewed = highest !== undefined && highest.attempt === attempt
            const superseded = new ClaimSuperseded({ jobId, attempt, highestAttempt: highest?.attempt ?? attempt })
            if (highest !== undefined && highest.attempt > attempt) return yield* superseded
            if (renewed && !(highest.live && sameClaim(claimOf(highest), claim))) return yield* superseded
            // Waits for commits that hold an older attempt's row, and is waited for by those that come later.
            yield* sql`update claims set ended_at = clock_timestamp()
              where project = ${project} and job_id = ${jobId} and attempt < ${attempt} and ended_at is null`
            const rows = yield* sql`
              insert into claims as held (project, job_id, attempt, run_id, step_id, worker_session_id, owner_kind, owner_id,
                worker_principal_id, visibility, token_hash, lease_seconds, expires_at)
              values (${project}, ${jobId}, ${attempt}, ${claim.runId ?? null}, ${claim.stepId ?? null},
                ${claim.workerSessionId}, ${claim.owner.kind}, ${claim.owner.id}, ${claim.workerPrincipalId ?? null},
                ${claim.visibility}, ${hash}, ${leaseSeconds}, clock_timestamp() + make_interval(secs => ${leaseSeconds}))
              on conflict (project, job_id, attempt) do update
                set token_hash = excluded.token_hash, lease_seconds = excluded.lease_seconds, expires_at = excluded.expires_at
                where held.ended_at is null and held.expires_at > clock_timestamp()
              returning ${claimColumns(sql, "held")}, true as live`
            const row = yield* firstClaim(rows)
            if (row === undefined) return yield* superseded
            yield* sql`insert into lease_tokens (token_hash, project, job_id, attempt)
              values (${hash}, ${project}, ${jobId}, ${attempt})`
            return { token, expiresAt: row.expires_at, renewed }
          }),
        )
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
          returning ${claimColumns(sql, "claims")}, true as live`
        const prolonged = yield* firstClaim(rows)
        return prolonged?.expires_at ?? (yield* new LeaseLost({ jobId: row.job_id, attempt: row.attempt }))
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
        if (rows.length === 0) return yield* new LeaseLost({ jobId: row.job_id, attempt: row.attempt })
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.release")),
    ),

    releaseJob: traced("ClaimStore.releaseJob")(
      function* (project, jobId) {
        yield* sql`update claims set ended_at = clock_timestamp(), released = true
          where project = ${project} and job_id = ${jobId} and ended_at is null`
      },
      Effect.catchTag("SqlError", unavailable("ClaimStore.releaseJob")),
    ),

    prune: sql<{ readonly count: number }>`
      with gone as (
        delete from lease_tokens using claims
        where claims.project = lease_tokens.project and claims.job_id = lease_tokens.job_id
          and claims.attempt = lease_tokens.attempt and introspected_claim is null
          and coalesce(claims.ended_at, claims.expires_at) < clock_timestamp() - interval '24 hours'
        returning 1
      ), strangers as (
        delete from lease_tokens
        where introspected_claim is not null and last_seen_at < clock_timestamp() - interval '48 hours'
        returning 1
      )
      select ((select count(*) from gone) + (select count(*) from strangers))::int as count`.pipe(
      Effect.map(([row]) => row?.count ?? 0),
      Effect.catchTag("SqlError", unavailable("ClaimStore.prune")),
      spanned("ClaimStore.prune"),
    ),
  })
})

export const layer = Layer.effect(ClaimStore, make)
