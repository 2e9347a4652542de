import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect } from "effect"
import { RoutedApi } from "./Api.ts"
import { badRequest } from "./ApiErrors.ts"
import { projectCaller } from "./Auth.ts"
import { startingPoint, streamEvents } from "./events/EventStream.ts"
import { translated } from "./Refusals.ts"

export const EventsHttp = HttpApiBuilder.group(RoutedApi, "events", (handlers) =>
  handlers.handleRaw("stream", ({ headers, path, request, urlParams }) =>
    Effect.gen(function* () {
      const caller = yield* projectCaller(path.project)
      if (request.method === "HEAD") return yield* Effect.fail(badRequest("An event stream has no HEAD."))
      const from = yield* startingPoint(headers["last-event-id"], urlParams.after)
      yield* streamEvents(NodeHttpServerRequest.toServerResponse(request), caller, from)
      return HttpServerResponse.empty()
    }).pipe(translated),
  ),
)
