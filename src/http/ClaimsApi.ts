import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Attempt, Visibility } from "../domain/Claim.ts"
import { ExternalId } from "../domain/Ids.ts"
import { Principal } from "../domain/Principal.ts"
import { Error400, Error401, Error403, Error404, Error409, Error413, Error503 } from "./ApiErrors.ts"
import { Authentication } from "./Auth.ts"

const Job = Schema.Struct({ project: Schema.String, job_id: Schema.String })
const LeaseHeader = Schema.Struct({ "x-mobius-lease-token": Schema.optional(Schema.String) })

export const ClaimBody = Schema.Struct({
  run_id: Schema.optional(ExternalId),
  step_id: Schema.optional(ExternalId),
  worker_session_id: ExternalId,
  attempt: Attempt,
  owner: Schema.Struct(Principal.fields),
  worker_principal_id: Schema.optional(ExternalId),
  visibility: Schema.optional(Visibility),
  lease_seconds: Schema.optional(Schema.Int.pipe(Schema.between(5, 86_400))),
})

export const LeaseJson = Schema.Struct({
  lease_token: Schema.String,
  expires_at: Schema.String,
  heartbeat_seconds: Schema.Int,
}).annotations({ identifier: "Lease" })

export const ClaimsGroup = HttpApiGroup.make("claims")
  .add(
    HttpApiEndpoint.put("put", "/v1/projects/:project/claims/:job_id")
      .setPath(Job)
      .setPayload(ClaimBody)
      .addSuccess(LeaseJson, { status: 201 })
      .addSuccess(LeaseJson.annotations({ identifier: "RenewedLease" }), { status: 200 })
      .addError(Error413)
      .annotateContext(
        OpenApi.annotations({
          summary: "Take or renew the claim of a job",
          description: "A higher attempt supersedes the older claim at once. 200: renewed, with a new token.",
        }),
      ),
  )
  .add(
    HttpApiEndpoint.post("heartbeat", "/v1/projects/:project/claims/:job_id/heartbeat")
      .setPath(Job)
      .setHeaders(LeaseHeader)
      .addSuccess(Schema.Struct({ expires_at: Schema.String }))
      .annotateContext(OpenApi.annotations({ summary: "Prolong the lease" })),
  )
  .add(
    HttpApiEndpoint.del("release", "/v1/projects/:project/claims/:job_id")
      .setPath(Job)
      .setHeaders(LeaseHeader)
      .addSuccess(HttpApiSchema.NoContent)
      .annotateContext(OpenApi.annotations({ summary: "End the lease" })),
  )
  .addError(Error400)
  .addError(Error403)
  .addError(Error404)
  .addError(Error409)
  .addError(Error401)
  .addError(Error503)
  .middleware(Authentication)
