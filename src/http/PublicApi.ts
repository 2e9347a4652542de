import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Error503 } from "./ApiErrors.ts"

export const ReadyJson = Schema.Struct({
  status: Schema.String,
  degraded: Schema.Array(Schema.String),
}).annotations({ identifier: "Ready" })

export const VersionJson = Schema.Struct({
  version: Schema.String.annotations({ description: "The release of the program." }),
  commit: Schema.optional(Schema.String.annotations({ description: "What it was built from, when that is known." })),
  node: Schema.String.annotations({ description: "The version of Node.js it runs on." }),
}).annotations({ identifier: "Version" })

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
            "503 until Postgres and the blob store were reached once, and while draining; what is away later is `degraded`.",
        }),
      ),
  )
  .add(
    HttpApiEndpoint.get("version", "/version")
      .addSuccess(VersionJson)
      .annotateContext(OpenApi.annotations({ summary: "What runs here; no key is needed" })),
  )
