import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Error403, Error404, Error412, Error416, Error503 } from "./ApiErrors.ts"

const bytes = Schema.Uint8ArrayFromSelf.pipe(
  HttpApiSchema.withEncoding({ kind: "Uint8Array", contentType: "application/octet-stream" }),
)

export const SignedGroup = HttpApiGroup.make("signed")
  .add(
    HttpApiEndpoint.get("content", "/v1/signed/:id/content")
      .setPath(Schema.Struct({ id: Schema.String }))
      .setUrlParams(
        Schema.Struct({ expires: Schema.optional(Schema.String), signature: Schema.optional(Schema.String) }),
      )
      .addSuccess(bytes)
      .addError(Error412)
      .addError(Error416)
      .annotateContext(OpenApi.annotations({ summary: "The bytes, by a URL that the node signed" })),
  )
  .addError(Error403)
  .addError(Error404)
  .addError(Error503)

export const ReadyJson = Schema.Struct({
  status: Schema.String,
  degraded: Schema.Array(Schema.String),
}).annotations({ identifier: "Ready" })

export const HealthGroup = HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("healthz", "/healthz")
      .addSuccess(Schema.Struct({ status: Schema.Literal("ok") }))
      .annotateContext(OpenApi.annotations({ summary: "The process lives" })),
  )
  .add(
    HttpApiEndpoint.get("readyz", "/readyz")
      .addSuccess(ReadyJson)
      .addError(Error503)
      .annotateContext(
        OpenApi.annotations({
          summary: "The node takes requests",
          description:
            "503 until the dependencies were reached once, and while draining; one lost later is `degraded`.",
        }),
      ),
  )
