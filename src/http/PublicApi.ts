import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Error503 } from "./ApiErrors.ts"

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
