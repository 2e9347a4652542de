import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Headers from "@effect/platform/Headers"
import { Effect, Exit, FiberRef, Option } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { currentAnswer } from "../telemetry/Subject.ts"
import { matchOf } from "./Routes.ts"

/** Asked every second, or open for hours: not worth a trace. */
const untraced = new Set(["/healthz", "/readyz", "/v1/projects/:project/events", "/v1/events"])

/**
 * What handles a request, in the request's span, which continues the caller's trace. The platform's own would carry
 * headers and the whole URL, and so lease tokens and signatures. `statusOf` tells the status of an answer that is not sent
 * yet.
 */
export const inSpan = <A, E, R>(
  req: IncomingMessage,
  res: ServerResponse,
  app: Effect.Effect<A, E, R>,
  statusOf: (answer: A) => number,
): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) => {
    if (!fiber.getFiberRef(FiberRef.currentTracerEnabled)) return app
    const route = matchOf(req).template
    if (untraced.has(route)) return Effect.withTracerEnabled(app, false)
    const parent = Option.getOrUndefined(HttpTraceContext.w3c(Headers.fromInput(req.headers)))
    return Effect.useSpan(
      `${req.method} ${route}`,
      {
        kind: "server",
        captureStackTrace: false,
        ...(parent !== undefined && { parent }),
        attributes: {
          "http.request.method": req.method,
          "http.route": route,
          request_id: String(res.getHeader("x-request-id") ?? ""),
        },
      },
      (span) =>
        Effect.onExit(Effect.withParentSpan(app, span), (exit) =>
          Effect.sync(() =>
            span.attribute(
              "http.response.status_code",
              res.headersSent || Exit.isFailure(exit) ? res.statusCode : statusOf(exit.value),
            ),
          ),
        ),
    )
  })

/** `inSpan` for what the platform serves, whose log lines say which request they are about. */
export const traced = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const res = NodeHttpServerRequest.toServerResponse(request)
    const inItsSpan = inSpan(NodeHttpServerRequest.toIncomingMessage(request), res, app, ({ status }) => status)
    return Effect.locally(inItsSpan, currentAnswer, res)
  })
