import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Bytes } from "../domain/Ids.ts"
import { Permission, Principal } from "../domain/Principal.ts"
import { Error400, Error401, Error403, Error404, Error413, Error503 } from "./ApiErrors.ts"
import { Authentication } from "./Auth.ts"

const Project = Schema.Struct({ project: Schema.String })

export const ProjectBody = Schema.Struct({ quota_bytes: Schema.optional(Bytes) })

export const ProjectJson = Schema.Struct({
  project: Schema.String,
  quota_bytes: Schema.Number,
  limit_bytes: Schema.Number,
  used_bytes: Schema.Number,
  reserved_bytes: Schema.Number,
  artifact_count: Schema.Number,
  created_at: Schema.String,
}).annotations({ identifier: "Project" })

export const ApiKeyBody = Schema.Struct({
  principal: Schema.Struct(Principal.fields),
  permissions: Schema.Array(Permission),
  expires_at: Schema.optional(Schema.String.annotations({ description: "RFC 3339." })),
})

const apiKeyFields = {
  project: Schema.String,
  principal: Schema.Struct(Principal.fields),
  permissions: Schema.Array(Permission),
  created_at: Schema.String,
  expires_at: Schema.optional(Schema.String),
}
export const ApiKeyJson = Schema.Struct({ id: Schema.String, ...apiKeyFields }).annotations({ identifier: "ApiKey" })
export const IssuedApiKeyJson = Schema.Struct({ id: Schema.String, key: Schema.String, ...apiKeyFields }).annotations({
  identifier: "IssuedApiKey",
})

export const EventPage = Schema.Struct({
  items: Schema.Array(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
  has_more: Schema.Boolean,
  last_sequence: Schema.Int,
  oldest_retained: Schema.optional(Schema.Int),
}).annotations({ identifier: "EventPage" })

const summary = (text: string) => OpenApi.annotations({ summary: text })

export const AdminGroup = HttpApiGroup.make("admin")
  .add(
    HttpApiEndpoint.put("putProject", "/v1/admin/projects/:project")
      .setPath(Project)
      .setPayload(ProjectBody)
      .addSuccess(ProjectJson)
      .addError(Error413)
      .annotateContext(summary("Create a project or change its quota")),
  )
  .add(
    HttpApiEndpoint.get("getProject", "/v1/admin/projects/:project")
      .setPath(Project)
      .addSuccess(ProjectJson)
      .annotateContext(summary("A project's limit, used and reserved bytes")),
  )
  .add(
    HttpApiEndpoint.post("issueKey", "/v1/admin/projects/:project/api-keys")
      .setPath(Project)
      .setPayload(ApiKeyBody)
      .addSuccess(IssuedApiKeyJson, { status: 201 })
      .addError(Error413)
      .annotateContext(summary("Issue an API key; it is shown this once")),
  )
  .add(
    HttpApiEndpoint.get("listKeys", "/v1/admin/projects/:project/api-keys")
      .setPath(Project)
      .addSuccess(Schema.Struct({ items: Schema.Array(ApiKeyJson) }))
      .annotateContext(summary("The project's API keys, without their secrets")),
  )
  .add(
    HttpApiEndpoint.del("revokeKey", "/v1/admin/projects/:project/api-keys/:id")
      .setPath(Schema.Struct({ project: Schema.String, id: Schema.String }))
      .addSuccess(HttpApiSchema.NoContent)
      .annotateContext(summary("Revoke an API key")),
  )
  .add(
    HttpApiEndpoint.get("events", "/v1/admin/events")
      .setUrlParams(
        Schema.Struct({
          after: Schema.optional(Schema.NumberFromString.pipe(Schema.int(), Schema.nonNegative())),
          limit: Schema.optional(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 1000))),
        }),
      )
      .addSuccess(EventPage)
      .annotateContext(summary("Retained source events of all projects, by sequence")),
  )
  .addError(Error400)
  .addError(Error403)
  .addError(Error404)
  .addError(Error401)
  .addError(Error503)
  .middleware(Authentication)
