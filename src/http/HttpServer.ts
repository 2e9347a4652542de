import { HttpApiBuilder, HttpApiSwagger, HttpMiddleware, HttpServer, type HttpServerRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Settings } from "../Config.ts"
import { AdminHttp } from "./AdminHttp.ts"
import { Api } from "./Api.ts"
import { ArtifactsHttp, KeyArtifactsHttp } from "./ArtifactsHttp.ts"
import { AuthenticationLive } from "./Auth.ts"
import { ClaimsHttp } from "./ClaimsHttp.ts"
import { envelopes } from "./Edge.ts"
import * as EventHub from "./events/EventHub.ts"
import { EventsHttp } from "./EventsHttp.ts"
import { HealthHttp, SignedHttp } from "./PublicHttp.ts"
import { Readiness } from "./Readiness.ts"
import { makeServer } from "./Server.ts"
import * as UploadGate from "./UploadGate.ts"

/** All groups of the API over their handlers. */
const api = HttpApiBuilder.api(Api).pipe(
  Layer.provide([ArtifactsHttp, KeyArtifactsHttp, EventsHttp, ClaimsHttp, AdminHttp, SignedHttp, HealthHttp]),
  Layer.provide([AuthenticationLive, UploadGate.layer, EventHub.layer]),
)

/**
 * The listening socket. When it is let go, the node drains: not ready, streams end, new work is refused, and running
 * requests have `DRAIN_SECONDS` before their connections are closed.
 */
const listener = Layer.scoped(
  HttpServer.HttpServer,
  Effect.gen(function* () {
    const { drainSeconds, host, port } = yield* Settings
    const readiness = yield* Readiness
    const server = makeServer({ isDraining: readiness.isDraining })
    const listening = yield* NodeHttpServer.make(() => server, { host, port })
    yield* Effect.addFinalizer(() =>
      Effect.zipRight(
        readiness.drain,
        Effect.sync(() => {
          setTimeout(() => server.closeAllConnections(), drainSeconds * 1000).unref()
        }),
      ),
    )
    return listening
  }),
)

/** Requests too frequent and too alike for a trace each. */
const hot = (request: HttpServerRequest.HttpServerRequest): boolean =>
  request.url === "/healthz" || request.url === "/readyz" || /\/content(?:\?|$)/.test(request.url)

/** The HTTP edge, serving. The `HttpServer` it provides knows the address in use, which port 0 leaves to the system. */
export const layer = HttpApiBuilder.serve().pipe(
  Layer.provide(HttpApiBuilder.middleware(envelopes)),
  Layer.provide([HttpApiSwagger.layer({ path: "/docs" }), HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" })]),
  Layer.provide(api),
  Layer.provideMerge(listener),
  Layer.provide(NodeHttpServer.layerContext),
  HttpMiddleware.withTracerDisabledWhen(hot),
)
