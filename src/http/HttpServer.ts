import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Context, Effect, Layer } from "effect"
import { Settings } from "../Config.ts"
import { AdminHttp } from "./AdminHttp.ts"
import { Api } from "./Api.ts"
import { ArtifactsHttp, KeyArtifactsHttp } from "./ArtifactsHttp.ts"
import { AuthenticationLive } from "./Auth.ts"
import { ClaimsHttp } from "./ClaimsHttp.ts"
import { watchConnections } from "./Connections.ts"
import * as Drain from "./Drain.ts"
import { envelopes } from "./Edge.ts"
import * as EventHub from "./events/EventHub.ts"
import { EventsHttp } from "./EventsHttp.ts"
import { HealthHttp, SignedHttp } from "./PublicHttp.ts"
import { makeServer } from "./Server.ts"
import { traced } from "./Trace.ts"
import * as UploadGate from "./UploadGate.ts"

/** All groups of the API over their handlers. */
const api = HttpApiBuilder.api(Api).pipe(
  Layer.provide([ArtifactsHttp, KeyArtifactsHttp, EventsHttp, ClaimsHttp, AdminHttp, SignedHttp, HealthHttp]),
  Layer.provide([AuthenticationLive, UploadGate.layer, EventHub.layer]),
)

/** The listening socket, on which nothing is served before `layer` below does, nor after it is let go. */
const listener = Layer.scopedContext(
  Effect.gen(function* () {
    const { host, port } = yield* Settings
    const server = makeServer()
    const drain = yield* Drain.make(watchConnections(server))
    const listening = yield* NodeHttpServer.make(() => server, { host, port })
    return Context.make(HttpServer.HttpServer, listening).pipe(Context.add(Drain.Drain, drain))
  }),
)

/** Every request with its answer in the one shape that errors have, its span, and counted while it runs. */
const middleware = HttpApiBuilder.middleware(
  Effect.map(
    Drain.Drain,
    ({ counted }) =>
      (app: HttpApp.Default) =>
        counted(traced(envelopes(app))),
  ),
)

/**
 * The HTTP edge, serving. The `HttpServer` it provides knows the address in use, which port 0 leaves to the system. It is
 * let go by draining, while handlers still have all that they need.
 */
export const layer = Layer.scopedDiscard(Effect.flatMap(Drain.Drain, ({ run }) => Effect.addFinalizer(() => run))).pipe(
  Layer.provideMerge(HttpApiBuilder.serve()),
  Layer.provide(middleware),
  Layer.provide([HttpApiSwagger.layer({ path: "/docs" }), HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" })]),
  Layer.provide(api),
  Layer.provideMerge(listener),
  Layer.provide(NodeHttpServer.layerContext),
  HttpMiddleware.withTracerDisabledWhen(() => true),
)
