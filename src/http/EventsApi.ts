import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Error400, Error401, Error403, Error404, Error410, Error503 } from "./ApiErrors.ts"
import { Authentication } from "./Auth.ts"

export const EventsGroup = HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("stream", "/v1/projects/:project/events")
      .setPath(Schema.Struct({ project: Schema.String }))
      .setUrlParams(Schema.Struct({ after: Schema.optional(Schema.String) }))
      .setHeaders(Schema.Struct({ "last-event-id": Schema.optional(Schema.String) }))
      .addSuccess(HttpApiSchema.Text({ contentType: "text/event-stream" }))
      .addError(Error400)
      .addError(Error403)
      .addError(Error404)
      .addError(Error410)
      .annotateContext(
        OpenApi.annotations({
          summary: "The project's source events as server-sent events",
          description:
            "Resumes after Last-Event-ID or `after`, whichever is larger; without either it starts from now. Ids without " +
            "data, in the first frame and now and then, say up to where everything was examined, visible or not.",
        }),
      ),
  )
  .addError(Error401)
  .addError(Error503)
  .middleware(Authentication)
