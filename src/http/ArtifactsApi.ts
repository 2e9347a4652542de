import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Error400, Error401, Error403, Error404, Error503 } from "./ApiErrors.ts"
import { ArtifactJson } from "./ArtifactJson.ts"
import { Authentication } from "./Auth.ts"

/** What a path names; without a project it is the key's. */
export const Project = Schema.Struct({ project: Schema.optional(Schema.String) })
export const Artifact = Schema.Struct({ project: Schema.optional(Schema.String), id: Schema.String })

const ListParams = Schema.Struct({
  run_id: Schema.optional(Schema.String),
  step_id: Schema.optional(Schema.String),
  job_id: Schema.optional(Schema.String),
  mime: Schema.optional(Schema.String.annotations({ description: "A prefix of the media type." })),
  name_prefix: Schema.optional(Schema.String),
  state: Schema.optional(Schema.Literal("ready", "deleted")),
  cursor: Schema.optional(Schema.String),
  limit: Schema.optional(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 100))),
})

export const ArtifactPage = Schema.Struct({
  items: Schema.Array(ArtifactJson),
  has_more: Schema.Boolean,
  next_cursor: Schema.optional(Schema.String),
}).annotations({ identifier: "ArtifactPage" })

export const SignedUrlBody = Schema.Struct({
  ttl_seconds: Schema.optional(Schema.Int.pipe(Schema.greaterThanOrEqualTo(1))),
})

export const SignedUrlJson = Schema.Struct({
  url: Schema.String,
  method: Schema.Literal("GET"),
  expires_at: Schema.String,
}).annotations({ identifier: "SignedUrl" })

export const QuotaJson = Schema.Struct({
  used_bytes: Schema.Number,
  limit_bytes: Schema.Number,
  artifact_count: Schema.Number,
  pending_count: Schema.Number,
  generated_at: Schema.String,
}).annotations({ identifier: "Quota" })

export const summary = (text: string, description = "") =>
  OpenApi.annotations({ summary: text, ...(description ? { description } : {}) })

/** The same calls twice: with the project in the path, and with the project of the key. */
const group = <const Name extends string>(name: Name, root: "/v1/projects/:project" | "/v1") =>
  HttpApiGroup.make(name)
    .add(
      HttpApiEndpoint.get("list", `${root}/artifacts`)
        .setPath(Project)
        .setUrlParams(ListParams)
        .addSuccess(ArtifactPage)
        .annotateContext(summary("List artifacts, newest first")),
    )
    .add(
      HttpApiEndpoint.get("quota", `${root}/artifacts/quota`)
        .setPath(Project)
        .addSuccess(QuotaJson)
        .annotateContext(summary("The project's storage quota")),
    )
    .add(
      HttpApiEndpoint.get("storageQuota", `${root}/settings/artifact-storage/quota`)
        .setPath(Project)
        .addSuccess(QuotaJson)
        .annotateContext(summary("The project's storage quota")),
    )
    .add(
      HttpApiEndpoint.get("find", `${root}/artifacts/:id`)
        .setPath(Artifact)
        .setUrlParams(Schema.Struct({ include: Schema.optional(Schema.Literal("deleted")) }))
        .addSuccess(ArtifactJson)
        .annotateContext(summary("One artifact", "`include=deleted` shows its tombstone too.")),
    )
    .add(
      HttpApiEndpoint.post("signedUrl", `${root}/artifacts/:id/signed-url`)
        .setPath(Artifact)
        .setUrlParams(
          Schema.Struct({
            ttl_seconds: Schema.optional(Schema.NumberFromString.pipe(Schema.int(), Schema.greaterThanOrEqualTo(1))),
          }),
        )
        .setPayload(SignedUrlBody)
        .addSuccess(SignedUrlJson)
        .annotateContext(summary("A URL that serves the bytes without a key", "A long ttl is capped at the maximum.")),
    )
    .add(
      HttpApiEndpoint.del("remove", `${root}/artifacts/:id`)
        .setPath(Artifact)
        .addSuccess(HttpApiSchema.NoContent)
        .annotateContext(summary("Delete an artifact", "Its bytes are gone when this answers 204.")),
    )
    .addError(Error400)
    .addError(Error403)
    .addError(Error404)
    .addError(Error401)
    .addError(Error503)
    .middleware(Authentication)

export const ArtifactsGroup = group("artifacts", "/v1/projects/:project")
export const KeyArtifactsGroup = group("keyArtifacts", "/v1")
