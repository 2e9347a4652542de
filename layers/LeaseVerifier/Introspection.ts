import { SqlClient } from "@effect/sql"
import { Clock, Effect, Layer, Redacted, Schema } from "effect"
import { Attempt, Claim, LeaseInvalid, LeaseLost, Visibility } from "../../src/domain/Claim.ts"
import { ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { LeaseVerifier, type VerifiedLease } from "../../services/LeaseVerifier.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { hashOf, sameClaim } from "../ClaimStore/claims.ts"
import { unavailable } from "../clients/sqlErrors.ts"

const ClaimJson = Schema.Struct({
  project: ProjectHandle,
  run_id: Schema.optional(ExternalId),
  step_id: Schema.optional(ExternalId),
  job_id: ExternalId,
  worker_session_id: ExternalId,
  attempt: Attempt,
  owner: Schema.Struct(Principal.fields),
  visibility: Schema.optionalWith(Visibility, { default: () => "shared" as const }),
  worker_principal_id: Schema.optional(ExternalId),
})
const Answer = Schema.Union(
  Schema.Struct({ active: Schema.Literal(true), ...ClaimJson.fields }),
  Schema.Struct({ active: Schema.Literal(false) }),
)
const decodeAnswer = Schema.decodeUnknown(Answer)
const decodeKnown = Schema.decodeUnknown(Schema.Array(Schema.Struct({ introspected_claim: ClaimJson })))

const claimOf = (json: typeof ClaimJson.Type): Claim =>
  new Claim({
    project: json.project,
    jobId: json.job_id,
    attempt: json.attempt,
    workerSessionId: json.worker_session_id,
    ...(json.run_id !== undefined && { runId: json.run_id }),
    ...(json.step_id !== undefined && { stepId: json.step_id }),
    owner: new Principal(json.owner),
    ...(json.worker_principal_id !== undefined && { workerPrincipalId: json.worker_principal_id }),
    visibility: json.visibility,
  })

const fault = (cause: unknown) =>
  new DependencyUnavailable({ dependency: "lease_introspection", operation: "LeaseVerifier.introspect", cause })

/** How long the control plane has for an answer, in milliseconds. */
const patience = 2000

const make = (options: { readonly url: URL; readonly token: Redacted.Redacted }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    const ask = Effect.fnUntraced(function* (project: string, token: Redacted.Redacted) {
      const body = yield* Effect.tryPromise({
        try: async () => {
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
          if (response.status !== 200) throw new Error(`the control plane answered ${response.status}`)
          return response.json()
        },
        catch: fault,
      })
      // What the decoder says of the answer could repeat parts of it.
      return yield* Effect.mapError(decodeAnswer(body), () => fault(new Error("the control plane's answer is malformed")))
    })

    /** The claim this token was seen to stand for while it was live. */
    const remembered = Effect.fnUntraced(function* (project: string, hash: Buffer) {
      const rows = yield* sql`select introspected_claim from lease_tokens
        where token_hash = ${hash} and project = ${project} and introspected_claim is not null`
      const [known] = yield* Effect.orDie(decodeKnown(rows))
      return known && claimOf(known.introspected_claim)
    })

    const introspect = Effect.fn("LeaseVerifier.introspect")(
      function* (request: { readonly project: string; readonly principal: Principal; readonly token: Redacted.Redacted }) {
        const { principal, project, token } = request
        const hash = hashOf(token)
        const askedAtMillis = yield* Clock.currentTimeMillis
        const answer = yield* ask(project, token)
        const claim = answer.active ? claimOf(answer) : yield* remembered(project, hash)
        if (claim === undefined || claim.project !== project) return yield* new LeaseInvalid()
        if (claim.workerPrincipalId !== undefined && claim.workerPrincipalId !== principal.id)
          return yield* new LeaseInvalid()
        if (!answer.active) {
          const ended: VerifiedLease = { _tag: "Ended", claim }
          return ended
        }
        const { active: _, ...json } = answer
        yield* sql`insert into lease_tokens (token_hash, project, job_id, attempt, introspected_claim)
          values (${hash}, ${project}, ${claim.jobId}, ${claim.attempt}, ${JSON.stringify(json)}::jsonb)
          on conflict (token_hash) do update set last_seen_at = clock_timestamp()`
        const live: VerifiedLease = { _tag: "Live", claim, proof: { _tag: "Introspected", tokenHash: hash, askedAtMillis } }
        return live
      },
      Effect.catchTag("SqlError", unavailable("LeaseVerifier.introspect")),
    )

    return LeaseVerifier.of({
      verify: introspect,
      confirm: Effect.fn("LeaseVerifier.confirm")(function* ({ claim, principal, token }) {
        const lease = yield* introspect({ project: claim.project, principal, token })
        if (lease._tag !== "Live" || !sameClaim(lease.claim, claim))
          return yield* new LeaseLost({ jobId: claim.jobId, attempt: claim.attempt })
        return lease.proof
      }),
    })
  })

/**
 * Claims of a control plane of its own: asked by HTTP before the body and right before the commit. What tokens stood
 * for is remembered by their hash, so that a keyed upload can be replayed after its claim's end.
 */
export const layer = (options: { readonly url: URL; readonly token: Redacted.Redacted }) =>
  Layer.effect(LeaseVerifier, make(options))
