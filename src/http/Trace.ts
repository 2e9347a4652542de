import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, Exit, FiberRef, Option } from "effect"
import { routeOf } from "./Routes.ts"

/** Asked every second, or open for hours: not worth a trace. */
const untraced = new Set(["/healthz", "/readyz", "/v1/projects/:project/events", "/v1/events"])

/**
 * The span of a request, continuing the caller's trace. The platform's own would carry headers and the whole URL, and so
 * lease tokens and signatures.
 */
export const traced = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.withFiberRuntime<Effect.Effect.Success<typeof app>, E, R | HttpServerRequest.HttpServerRequest>((fiber) => {
    if (!fiber.getFiberRef(FiberRef.currentTracerEnabled)) return app
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const route = routeOf(request.originalUrl)
      if (untraced.has(route)) return Effect.withTracerEnabled(app, false)
      const res = NodeHttpServerRequest.toServerResponse(request)
      const parent = Option.getOrUndefined(HttpTraceContext.w3c(request.headers))
      return Effect.useSpan(
        `${request.method} ${route}`,
        {
          kind: "server",
          captureStackTrace: false,
          ...(parent !== undefined && { parent }),
          attributes: {
            "http.request.method": request.method,
            "http.route": route,
            request_id: String(res.getHeader("x-request-id") ?? ""),
          },
        },
        (span) =>
          Effect.onExit(Effect.withParentSpan(app, span), (exit) =>
            Effect.sync(() =>
              span.attribute(
                "http.response.status_code",
                res.headersSent || Exit.isFailure(exit) ? res.statusCode : exit.value.status,
              ),
            ),
          ),
      )
    })
  })
