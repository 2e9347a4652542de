import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Effect, Layer, Redacted, Schema } from "effect"
import { Attempt, Claim, LeaseInvalid, LeaseLost, Visibility } from "../../src/domain/Claim.ts"
import { ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { LeaseVerifier, type LeaseProof, type VerifiedLease } from "../../services/LeaseVerifier.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { hashOf, sameClaim } from "../ClaimStore/claims.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** How long the control plane may take to answer, in milliseconds. */
const patience = 2000

const optionalId = Schema.optionalWith(ExternalId, { nullable: true })

const Active = Schema.Struct({
  active: Schema.Literal(true),
  project: ProjectHandle,
  run_id: optionalId,
  step_id: optionalId,
  job_id: ExternalId,
  worker_session_id: ExternalId,
  attempt: Attempt,
  owner: Principal,
  visibility: Schema.optionalWith(Visibility, { default: () => "shared" as const }),
  worker_principal_id: optionalId,
})
const Answer = Schema.Union(Active, Schema.Struct({ active: Schema.Literal(false) }))
const decodeAnswer = Schema.decodeUnknown(Answer)

const encodeClaim = Schema.encodeSync(Schema.parseJson(Claim))
const decodeEnded = Schema.decodeUnknown(Schema.Array(Schema.Struct({ introspected_claim: Schema.parseJson(Claim) })))

const claimOf = (answer: typeof Active.Type): Claim =>
  new Claim({
    project: answer.project,
    jobId: answer.job_id,
    attempt: answer.attempt,
    workerSessionId: answer.worker_session_id,
    ...(answer.run_id !== undefined && { runId: answer.run_id }),
    ...(answer.step_id !== undefined && { stepId: answer.step_id }),
    owner: answer.owner,
    ...(answer.worker_principal_id !== undefined && { workerPrincipalId: answer.worker_principal_id }),
    visibility: answer.visibility,
  })

const mayUse = (claim: Claim, principal: Principal): boolean =>
  claim.workerPrincipalId === undefined || claim.workerPrincipalId === principal.id

interface Asked {
  readonly project: ProjectHandle
  readonly principal: Principal
  readonly token: Redacted.Redacted
}

interface Options {
  readonly url: URL
  /** Sent as the bearer token of every question. */
  readonly token: Redacted.Redacted
}

const make = (options: Options) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    // The causes are this module's own words: an answer that echoes a token must not bring it into the log.
    const fetchAnswer = ({ project, token }: Asked, operation: string) => {
      const failed = (reason: string) =>
        new DependencyUnavailable({ dependency: "lease_introspection", operation, cause: new Error(reason) })
      return Effect.tryPromise({
        try: async (): Promise<{ readonly status: number; readonly body: unknown }> => {
          const response = await fetch(options.url, {
            method: "POST",
            headers: {
              authorization: `Bearer ${Redacted.value(options.token)}`,
              "content-type": "application/json",
              accept: "application/json",
            },
            body: JSON.stringify({ project, token: Redacted.value(token) }),
            redirect: "error",
            signal: AbortSignal.timeout(patience),
          })
          if (response.status === 200) return { status: 200, body: await response.json() }
          await response.body?.cancel()
          return { status: response.status, body: undefined }
        },
        catch: (error) =>
          failed(error instanceof SyntaxError ? "the answer is not JSON" : "no answer within 2 s, or no connection"),
      }).pipe(
        Effect.filterOrFail(
          ({ status }) => status === 200,
          ({ status }) => failed(`the answer's status is ${status}`),
        ),
        Effect.flatMap(({ body }) => Effect.mapError(decodeAnswer(body), () => failed("the answer is malformed"))),
      )
    }

    /** The claim the control plane holds by this token now, for this principal; `undefined` when it holds none. */
    const ask = Effect.fnUntraced(function* (asked: Asked, operation: string) {
      const askedAtMillis = yield* Clock.currentTimeMillis
      const answer = yield* fetchAnswer(asked, operation)
      if (!answer.active) return undefined
      const claim = claimOf(answer)
      if (claim.project !== asked.project || !mayUse(claim, asked.principal)) return yield* new LeaseInvalid()
      const tokenHash = hashOf(asked.token)
      yield* sql`
        insert into lease_tokens (token_hash, project, job_id, attempt, introspected_claim, last_seen_at)
        values (${tokenHash}, ${claim.project}, ${claim.jobId}, ${claim.attempt}, ${encodeClaim(claim)}::text::jsonb,
          clock_timestamp())
        on conflict (token_hash) do update set project = excluded.project, job_id = excluded.job_id,
          attempt = excluded.attempt, introspected_claim = excluded.introspected_claim,
          last_seen_at = excluded.last_seen_at`.pipe(Effect.catchTag("SqlError", unavailable(operation)))
      const proof: LeaseProof = { _tag: "Introspected", tokenHash, askedAtMillis }
      return { claim, proof }
    })

    /** What an earlier answer said of a token that is dead now. */
    const remembered = Effect.fnUntraced(function* ({ principal, project, token }: Asked, operation: string) {
      const rows = yield* sql`
        select introspected_claim::text as introspected_claim from lease_tokens
        where token_hash = ${hashOf(token)} and project = ${project} and introspected_claim is not null`.pipe(
        Effect.catchTag("SqlError", unavailable(operation)),
      )
      const [row] = yield* Effect.orDie(decodeEnded(rows))
      return row !== undefined && mayUse(row.introspected_claim, principal)
        ? row.introspected_claim
        : yield* new LeaseInvalid()
    })

    return LeaseVerifier.of({
      verify: traced("LeaseVerifier.verify")(function* (asked) {
        const held = yield* ask(asked, "LeaseVerifier.verify")
        const lease: VerifiedLease =
          held === undefined
            ? { _tag: "Ended", claim: yield* remembered(asked, "LeaseVerifier.verify"), reason: undefined }
            : { _tag: "Live", ...held }
        return lease
      }),
      confirm: traced("LeaseVerifier.confirm")(function* ({ claim, principal, token }) {
        const held = yield* ask({ project: claim.project, principal, token }, "LeaseVerifier.confirm")
        return held !== undefined && sameClaim(held.claim, claim)
          ? held.proof
          : yield* new LeaseLost({ jobId: claim.jobId, attempt: claim.attempt })
      }),
    })
  })

/** Claims of a control plane that answers for itself (token introspection). Nothing is believed without asking. */
export const layer = (options: Options): Layer.Layer<LeaseVerifier, never, SqlClient.SqlClient> =>
  Layer.effect(LeaseVerifier, make(options))
