import type * as Sharding from "@effect/cluster/Sharding"
import { Effect, Layer, Redacted } from "effect"
import * as Actors from "../../src/actors/Actors.ts"
import { Settings, type SettingsShape } from "../../src/Config.ts"
import { loadOrMake } from "../../src/embedded/DevCredentials.ts"
import { welcome } from "../../src/embedded/Welcome.ts"
import * as HttpServer from "../../src/http/HttpServer.ts"
import * as Readiness from "../../src/http/Readiness.ts"
import * as Lifecycle from "../../src/Lifecycle.ts"
import * as Shutdown from "../../src/Shutdown.ts"
import { checkStoreIdentity } from "../../src/Startup.ts"
import * as Backlog from "../../src/telemetry/Backlog.ts"
import * as BuildInfo from "../../src/telemetry/BuildInfo.ts"
import * as DatabaseAges from "../../src/telemetry/DatabaseAges.ts"
import * as Logs from "../../src/telemetry/Logs.ts"
import * as MetricsServer from "../../src/telemetry/MetricsServer.ts"
import * as Tracing from "../../src/telemetry/Tracing.ts"
import { awaited } from "../../src/Waiting.ts"
import * as Cluster from "./Cluster.ts"
import * as Production from "./Production.ts"

/**
 * Side by side, for then they are let go at the same time: the server stops being ready and drains for as long as its
 * requests take, and the actors move to other pods at once. What both stand on goes after that.
 */
const served = <A extends Sharding.Sharding, E, R>(settings: SettingsShape, cluster: Layer.Layer<A, E, R>) =>
  Layer.merge(
    Lifecycle.announce.pipe(Layer.provideMerge(HttpServer.layer), Tracing.exported(settings)),
    Layer.mergeAll(Actors.layer(settings).pipe(Layer.provide(cluster)), Backlog.layer, DatabaseAges.layer),
  ).pipe(Layer.provide(Readiness.layer({ redis: settings.production !== undefined })))

/** A stack whose store belongs to its database. */
const founded = <A, E, R>(stack: Layer.Layer<A, E, R>) => Layer.provideMerge(checkStoreIdentity, stack)

/** Its parts are loaded by nodes that are embedded only: a database that runs in the process takes its time to load. */
const embeddedParts = Effect.promise(() => Promise.all([import("./Embedded.ts"), import("../clients/DataDirLock.ts")]))

const embedded = (settings: SettingsShape) =>
  Layer.unwrapEffect(
    Effect.map(embeddedParts, ([Embedded, DataDirLock]) =>
      Layer.unwrapEffect(
        Effect.map(loadOrMake(settings.dataDir), (credentials) => {
          const complete: SettingsShape = {
            ...settings,
            bootstrapApiKeys:
              settings.bootstrapApiKeys.length > 0 ? settings.bootstrapApiKeys : [Redacted.make(credentials.admin_key)],
            urlSigningSecrets:
              settings.urlSigningSecrets.length > 0
                ? settings.urlSigningSecrets
                : [Redacted.make(credentials.url_signing_secret)],
          }
          return Layer.scopedDiscard(welcome).pipe(
            Layer.provideMerge(served(complete, Cluster.single)),
            Layer.provide(founded(Embedded.layer(complete))),
          )
        }),
      ).pipe(Layer.provide(DataDirLock.layer({ dataDir: settings.dataDir }))),
    ),
  )

type StartFault =
  | Layer.Layer.Error<ReturnType<typeof embedded>>
  | Layer.Layer.Error<ReturnType<typeof Production.cluster>>
  | Layer.Layer.Error<ReturnType<typeof Production.layer>>

const node = (settings: SettingsShape): Layer.Layer<never, StartFault, Settings> =>
  settings.production
    ? Layer.discard(served(settings, Production.cluster(settings, settings.production))).pipe(
        Layer.provide(awaited(founded(Production.layer(settings, settings.production)))),
      )
    : Layer.discard(embedded(settings))

/** The whole node, as its settings say. Its signals are there before it is, and until it has drained. */
export const layer = Layer.unwrapEffect(
  Effect.map(Settings, (settings) =>
    node(settings).pipe(
      Tracing.off,
      Layer.provide([MetricsServer.layer, BuildInfo.layer]),
      Layer.provide([Lifecycle.layer, Shutdown.layer]),
      Layer.provide(Logs.layer(settings)),
    ),
  ),
)
