import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Context, Effect, Layer, Schema } from "effect"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { Settings } from "../Config.ts"
import { AdminHttp } from "./AdminHttp.ts"
import { Api, RoutedApi } from "./Api.ts"
import { ArtifactsHttp, KeyArtifactsHttp } from "./ArtifactsHttp.ts"
import { AuthenticationLive } from "./Auth.ts"
import * as BytesHttp from "./BytesHttp.ts"
import { ClaimsHttp } from "./ClaimsHttp.ts"
import { watchConnections } from "./Connections.ts"
import * as Drain from "./Drain.ts"
import { envelopes } from "./Edge.ts"
import * as EventHub from "./events/EventHub.ts"
import * as KeyWatch from "./events/KeyWatch.ts"
import { EventsHttp } from "./EventsHttp.ts"
import * as Gates from "./Gates.ts"
import { connectionLimit } from "./OpenFiles.ts"
import { HealthHttp } from "./PublicHttp.ts"
import { refuseByRule, type Surface } from "./RequestRules.ts"
import { sent } from "./Sending.ts"
import { makeServer } from "./Server.ts"
import { cutStalledReaders } from "./StalledReaders.ts"
import { traced } from "./Trace.ts"
import * as Turns from "../turns/Turns.ts"
import * as UploadGate from "./UploadGate.ts"

/** What the platform's router finds is what RequestRules.ts has let through: exact, and ids of any length. */
const routing = HttpRouter.setRouterConfig({ caseSensitive: true, maxParamLength: 2000 })

/** All groups that the platform's router serves, over their handlers. */
const routedApi = HttpApiBuilder.api(RoutedApi).pipe(
  Layer.provide([ArtifactsHttp, KeyArtifactsHttp, EventsHttp, ClaimsHttp, AdminHttp, HealthHttp]),
  Layer.provide([AuthenticationLive, EventHub.layer, KeyWatch.layer]),
)

/** The document and its page, of all that is served. */
const documents = Layer.merge(
  HttpApiSwagger.layer({ path: "/docs" }),
  HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" }),
).pipe(Layer.provide(Layer.succeed(HttpApi.Api, { api: Api as never, context: Context.empty() })))

/** The port for the admin calls cannot be had. One clear sentence. */
class AdminPortUnusable extends Schema.TaggedError<AdminPortUnusable>()("AdminPortUnusable", {
  adminPort: Schema.Number,
}) {
  override get message() {
    return `ADMIN_PORT ${this.adminPort} cannot be listened on: another process uses it, or HOST is not this machine's.`
  }
}

/** Node's servers, which listen, with the calls that each serves. */
class Listeners extends Context.Tag("src/http/Listeners")<
  Listeners,
  ReadonlyArray<{ readonly server: Server; readonly surface: Surface }>
>() {}

/** The listening sockets, on which nothing is served before `layer` below does, nor after it is let go. */
const listener = Layer.scopedContext(
  Effect.gen(function* () {
    const { adminPort, downloadIdleSeconds, host, port } = yield* Settings
    const server = makeServer()
    const admin = adminPort === undefined ? undefined : makeServer()
    const listeners =
      admin === undefined
        ? [{ server, surface: "all" as const }]
        : [
            { server, surface: "public" as const },
            { server: admin, surface: "admin" as const },
          ]
    for (const listener of listeners)
      yield* Effect.acquireRelease(
        Effect.sync(() => cutStalledReaders(listener.server, downloadIdleSeconds)),
        (stop) => Effect.sync(stop),
      )
    const most = yield* connectionLimit
    // The administrator's own listener is not for everybody to fill.
    const watched = listeners.map(({ server, surface }) =>
      watchConnections(server, surface === "admin" ? undefined : most),
    )
    const drain = yield* Drain.make(watched)
    const listening = yield* NodeHttpServer.make(() => server, { host, port })
    if (admin !== undefined) {
      const { address } = yield* Effect.mapError(
        NodeHttpServer.make(() => admin, { host, port: adminPort }),
        () => new AdminPortUnusable({ adminPort: adminPort ?? 0 }),
      )
      yield* Effect.logInfo(`The admin calls are served at ${HttpServer.formatAddress(address)}, and nowhere else.`)
    }
    return Context.make(HttpServer.HttpServer, listening).pipe(
      Context.add(Drain.Drain, drain),
      Context.add(Listeners, listeners),
    )
  }),
)

/** Every request to the router with its answer in the one shape that errors have, its span, and counted while it runs. */
const middleware = HttpApiBuilder.middleware(
  Effect.map(
    Effect.all([Drain.Drain, Gates.Gates]),
    ([{ counted }, { answers }]) =>
      (app: HttpApp.Default) =>
        counted(traced(sent(envelopes(answers(app))))),
  ),
)

/** Serves until the scope closes: what carries bytes on its own way, all else by the platform's router. */
const serving = Layer.scopedDiscard(
  Effect.gen(function* () {
    const listeners = yield* Listeners
    const carriesBytes = yield* BytesHttp.BytesHttp
    const routed = yield* NodeHttpServer.makeHandler(yield* HttpApiBuilder.httpApp)
    for (const { server, surface } of listeners) {
      const onRequest = (req: IncomingMessage, res: ServerResponse) =>
        void (refuseByRule(req, res, surface) || carriesBytes(req, res) || routed(req, res))
      yield* Effect.acquireRelease(
        Effect.sync(() => server.on("request", onRequest)),
        () => Effect.sync(() => server.off("request", onRequest)),
      )
    }
  }),
).pipe(Layer.provide(middleware), Layer.provide([HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer]))

/**
 * The HTTP edge, serving. The `HttpServer` it provides knows the address in use, which port 0 leaves to the system. It is
 * let go by draining, while handlers still have all that they need.
 */
export const layer = Layer.scopedDiscard(Effect.flatMap(Drain.Drain, ({ run }) => Effect.addFinalizer(() => run))).pipe(
  Layer.provideMerge(serving),
  Layer.provide([documents, routedApi, BytesHttp.layer]),
  Layer.provide([UploadGate.layer, Gates.layer, Turns.layer]),
  Layer.provideMerge(listener),
  Layer.provide(NodeHttpServer.layerContext),
  HttpMiddleware.withTracerDisabledWhen(() => true),
  Layer.provide(routing),
)
