import { randomBytes } from "node:crypto"
import { MessageStorage, RunnerHealth, Runners, RunnerStorage, Sharding, ShardingConfig } from "@effect/cluster"
import { HttpServer as Listening } from "@effect/platform"
import { Chunk, ConfigProvider, Context, Effect, Exit, Layer, Logger, LogLevel, Scope, Stream } from "effect"
import * as Audit from "../../../layers/Audit/Memory.ts"
import * as AuditTrail from "../../../layers/AuditTrail/Memory.ts"
import * as Authenticator from "../../../layers/Authenticator/Memory.ts"
import * as Blobs from "../../../layers/BlobStore/Memory.ts"
import * as ClaimStore from "../../../layers/ClaimStore/Memory.ts"
import * as Database from "../../../layers/clients/Memory.ts"
import * as ContentHasher from "../../../layers/ContentHasher/NodeCrypto.ts"
import * as DatabaseAge from "../../../layers/DatabaseAge/Memory.ts"
import * as Bus from "../../../layers/EventBus/Memory.ts"
import * as Ids from "../../../layers/Ids/Random.ts"
import * as LeaseVerifier from "../../../layers/LeaseVerifier/Memory.ts"
import * as MetadataStore from "../../../layers/MetadataStore/Memory.ts"
import * as Outbox from "../../../layers/Outbox/Memory.ts"
import * as ProjectDuties from "../../../layers/ProjectDuties/Memory.ts"
import * as ProjectStore from "../../../layers/ProjectStore/Memory.ts"
import * as QuotaCounters from "../../../layers/QuotaCounters/Memory.ts"
import * as RemovalQueue from "../../../layers/RemovalQueue/Memory.ts"
import * as StoreGuard from "../../../layers/StoreGuard/Memory.ts"
import * as Wakeup from "../../../layers/Wakeup/Process.ts"
import { ActorMessages } from "../../../services/ActorMessages.ts"
import { BlobStore } from "../../../services/BlobStore.ts"
import { EventBus } from "../../../services/EventBus.ts"
import * as Actors from "../../../src/actors/Actors.ts"
import * as Config from "../../../src/Config.ts"
import { Settings, type SettingsShape } from "../../../src/Config.ts"
import * as HttpServer from "../../../src/http/HttpServer.ts"
import * as Readiness from "../../../src/http/Readiness.ts"
import type { Row } from "../../faults/auditEvents.ts"
import type { Look } from "../../faults/insides.ts"
import type { Stack } from "../history.ts"

const services = (settings: SettingsShape) => {
  const quota = { defaultQuotaBytes: settings.defaultQuotaBytes }
  return Layer.mergeAll(Authenticator.layer, QuotaCounters.layer, ContentHasher.layer).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Audit.layer,
        AuditTrail.layer,
        Blobs.layer,
        Bus.layer({ maxLength: settings.eventStreamMaxLength }),
        ClaimStore.layer,
        DatabaseAge.layer,
        LeaseVerifier.layer,
        MetadataStore.layer(quota),
        Outbox.layer,
        ProjectDuties.layer,
        ProjectStore.layer(quota),
        RemovalQueue.layer,
        StoreGuard.layer,
        Wakeup.layer,
        Layer.succeed(ActorMessages, { prune: () => Effect.succeed({ removed: 0, next: undefined }) }),
      ),
    ),
    Layer.provideMerge(Layer.mergeAll(Database.layer, Ids.layer, Layer.succeed(Settings, settings))),
  )
}

const cluster = Sharding.layer.pipe(
  Layer.provide(Runners.layerNoop),
  Layer.provideMerge(MessageStorage.layerMemory),
  Layer.provide([RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
  Layer.provide(ShardingConfig.layer({ entityMessagePollInterval: 200 })),
)

const quiet = Logger.minimumLogLevel(LogLevel.Warning)

const rowOf = ({ artifact, chargedBytes, state, upload }: Database.ArtifactRow): Row => ({
  id: upload.id,
  project: upload.project,
  state: state === "fenced" ? "pending" : state,
  name: artifact?.name ?? "",
  size: String(artifact?.size ?? 0),
  metadata: JSON.stringify(artifact?.metadata ?? {}),
  charged_bytes: String(chargedBytes),
  sha256: artifact?.sha256 ?? "",
  blob_key: upload.blobKey,
  run_id: artifact?.lineage?.runId ?? "",
  step_id: artifact?.lineage?.stepId ?? "",
  job_id: artifact?.lineage?.jobId ?? "",
  worker_session_id: artifact?.lineage?.workerSessionId ?? "",
  attempt: artifact?.lineage?.attempt ?? 0,
  owner_id: artifact?.owner.id ?? "",
  visibility: artifact?.visibility ?? "",
  created_at: artifact === undefined ? null : new Date(artifact.createdAt.epochMillis),
  deleted_at: artifact?.deletion === undefined ? null : new Date(artifact.deletion.at.epochMillis),
})

const look = Effect.gen(function* () {
  const state = yield* Database.MemoryDatabase
  const bus = yield* EventBus
  const store = yield* BlobStore
  const objects = yield* Stream.runCollect(Stream.merge(store.list(), store.partials))
  const entries: Array<Look["entries"][number]> = []
  const [top] = [yield* bus.top]
  if (top > 0)
    yield* bus.subscribe(0).pipe(
      Stream.take(top),
      Stream.runForEach(({ payload, sequence }) =>
        Effect.sync(() => void entries.push({ id: `${sequence}-0`, payload: JSON.parse(payload) })),
      ),
    )
  const found: Look = {
    rows: [...state.artifacts.values()].map(rowOf),
    usages: [...state.projects.values()].map(({ artifactCount, handle, usedBytes }) => ({
      project: handle,
      usedBytes,
      artifactCount,
    })),
    queuedRemovals: state.removals.size,
    unpublishedEvents: state.events.filter(({ publishedAt }) => publishedAt === undefined).length,
    entries,
    blobs: Chunk.toReadonlyArray(objects).map(({ key }) => key),
  }
  return found
})

/** The node in this process over the memory layers. It cannot be killed: its histories are of clients alone. */
export const startMemory = async (): Promise<Stack> => {
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const environment = ConfigProvider.fromMap(
    new Map([
      ["PORT", "0"],
      ["URL_SIGNING_SECRET", randomBytes(32).toString("hex")],
      ["BOOTSTRAP_API_KEY", adminKey],
      ["SWEEP_SECONDS", "1"],
    ]),
  )
  const scope = await Effect.runPromise(Scope.make())
  const building = Effect.gen(function* () {
    const settings = yield* Effect.provide(Settings, Layer.provide(Config.layer, Layer.setConfigProvider(environment)))
    const built = yield* Layer.build(services(settings))
    const provided = Layer.succeedContext(built)
    const edge = yield* Layer.build(
      HttpServer.layer.pipe(Layer.provide(Readiness.layer({ redis: false })), Layer.provide(provided)),
    )
    yield* Layer.build(Actors.layer(settings).pipe(Layer.provide(cluster), Layer.provide(provided)))
    const { address } = Context.get(edge, Listening.HttpServer)
    return { built, port: address._tag === "TcpAddress" ? address.port : 0 }
  })
  const { built, port } = await Effect.runPromise(Scope.extend(Effect.provide(building, quiet), scope))
  return {
    adminKey,
    pods: [`http://127.0.0.1:${port}`],
    insides: { look: () => Effect.runPromise(Effect.provide(look, built)) },
    wreak: async () => {},
    crashed: () => [],
    hasten: async () => {},
    logs: () => "",
    dispose: () => Effect.runPromise(Scope.close(scope, Exit.void)),
  }
}
