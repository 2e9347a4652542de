import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect, Redacted, Schema } from "effect"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Settings } from "../Config.ts"
import { Claim, LeaseRequired } from "../domain/Claim.ts"
import { ExternalId, ProjectHandle } from "../domain/Ids.ts"
import { Principal } from "../domain/Principal.ts"
import { RoutedApi } from "./Api.ts"
import { badRequest, notFound, permissionDenied } from "./ApiErrors.ts"
import { timestamp } from "./ArtifactJson.ts"
import { audited } from "./Audited.ts"
import { CurrentCaller, permittedCaller, projectCaller } from "./Auth.ts"
import { ClaimBody } from "./ClaimsApi.ts"
import { jsonBody } from "./JsonBody.ts"
import { translated } from "./Refusals.ts"
import { inTurn, writing } from "../turns/Turns.ts"

const defaultLeaseSeconds = 60

/** A control plane with its own claims has no claim routes here. */
const ownClaims = Effect.flatMap(Settings, ({ leaseIntrospection }) =>
  leaseIntrospection === undefined ? Effect.void : Effect.fail(notFound()),
)

const decodeProject = (project: string) =>
  Effect.mapError(Schema.decode(ProjectHandle)(project), () => notFound("There is no such project."))

/** The project's handle, for the administrator or a key that manages its claims. */
const managedProject = (project: string) =>
  Effect.flatMap(CurrentCaller, (caller) =>
    caller._tag === "AdminCaller"
      ? decodeProject(project)
      : Effect.map(permittedCaller(project, "mobius.claims.manage"), ({ project }) => project),
  )

const decodeJob = (jobId: string) =>
  Effect.mapError(Schema.decode(ExternalId)(jobId), () =>
    badRequest("The job's id must be 1 to 200 characters without control characters."),
  )

const leaseToken = (headers: { readonly "x-mobius-lease-token"?: string | undefined }) => {
  const token = headers["x-mobius-lease-token"]
  return token === undefined || token === "" ? undefined : Redacted.make(token)
}

export const ClaimsHttp = HttpApiBuilder.group(RoutedApi, "claims", (handlers) =>
  handlers
    .handleRaw("put", ({ path, request }) =>
      Effect.gen(function* () {
        yield* ownClaims
        const project = yield* managedProject(path.project)
        const jobId = yield* decodeJob(path.job_id)
        const body = yield* jsonBody(request, ClaimBody)
        const leaseSeconds = body.lease_seconds ?? defaultLeaseSeconds
        const claim = new Claim({
          project,
          jobId,
          attempt: body.attempt,
          workerSessionId: body.worker_session_id,
          ...(body.run_id === undefined ? {} : { runId: body.run_id }),
          ...(body.step_id === undefined ? {} : { stepId: body.step_id }),
          owner: new Principal(body.owner),
          ...(body.worker_principal_id === undefined ? {} : { workerPrincipalId: body.worker_principal_id }),
          visibility: body.visibility ?? "shared",
        })
        const lease = yield* inTurn(project, writing, (yield* ClaimStore).put(claim, leaseSeconds))
        return HttpServerResponse.unsafeJson(
          {
            lease_token: Redacted.value(lease.token),
            expires_at: timestamp(lease.expiresAt),
            heartbeat_seconds: Math.max(1, Math.floor(leaseSeconds / 3)),
          },
          { status: lease.renewed ? 200 : 201 },
        )
      }).pipe(translated),
    )
    .handle("heartbeat", ({ headers, path }) =>
      Effect.gen(function* () {
        yield* ownClaims
        const { principal, project } = yield* permittedCaller(path.project, "mobius.work.execute")
        const token = leaseToken(headers)
        if (token === undefined) return yield* new LeaseRequired()
        const jobId = yield* decodeJob(path.job_id)
        const beat = (yield* ClaimStore).heartbeat({ project, jobId, token, principal })
        const expiresAt = yield* inTurn(project, writing, beat)
        return { expires_at: timestamp(expiresAt) }
      }).pipe(translated),
    )
    .handleRaw("release", ({ headers, path }) =>
      Effect.gen(function* () {
        yield* ownClaims
        const claims = yield* ClaimStore
        const caller = yield* CurrentCaller
        const token = leaseToken(headers)
        const jobId = yield* decodeJob(path.job_id)
        const override = (project: ProjectHandle) =>
          audited(inTurn(project, writing, claims.releaseJob(project, jobId)), {
            action: "claim.overridden",
            project,
            subject: () => jobId,
            done: (ended) => ended,
          })
        if (caller._tag === "AdminCaller") yield* override(yield* decodeProject(path.project))
        else {
          const { principal, project } = yield* projectCaller(path.project)
          if (token !== undefined) yield* inTurn(project, writing, claims.release({ project, jobId, token, principal }))
          else if (caller.may("mobius.claims.manage")) yield* override(project)
          else return yield* Effect.fail(permissionDenied("mobius.claims.manage"))
        }
        return HttpServerResponse.empty({ status: 204 })
      }).pipe(translated),
    ),
)
