import { Effect, Layer } from "effect"
import { ActorMessages } from "../../services/ActorMessages.ts"
import { Audit } from "../../services/Audit.ts"
import { AuditTrail } from "../../services/AuditTrail.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { DatabaseAge } from "../../services/DatabaseAge.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { Settings, type SettingsShape } from "../../src/Config.ts"
import { observe } from "../../src/telemetry/Dependencies.ts"
import * as Messages from "../ActorMessages/Postgres.ts"
import * as Audits from "../Audit/Postgres.ts"
import * as AuditTrails from "../AuditTrail/Postgres.ts"
import * as Authenticators from "../Authenticator/Postgres.ts"
import * as BlobFiles from "../BlobStore/FileSystem.ts"
import * as ClaimStores from "../ClaimStore/Postgres.ts"
import * as ContentHasher from "../ContentHasher/NodeCrypto.ts"
import * as DatabaseAges from "../DatabaseAge/Postgres.ts"
import * as Ids from "../Ids/Random.ts"
import * as Claims from "../LeaseVerifier/Claims.ts"
import * as Introspection from "../LeaseVerifier/Introspection.ts"
import * as MetadataStores from "../MetadataStore/Postgres.ts"
import * as Outboxes from "../Outbox/Postgres.ts"
import * as Duties from "../ProjectDuties/Postgres.ts"
import * as ProjectStores from "../ProjectStore/Postgres.ts"
import * as RemovalQueues from "../RemovalQueue/Postgres.ts"
import * as StoreGuards from "../StoreGuard/Postgres.ts"

/** What both nodes share: everything that needs a SqlClient and nothing else, its operations timed. */
export const database = (settings: SettingsShape) => {
  const quota = { defaultQuotaBytes: settings.defaultQuotaBytes }
  const lease = settings.leaseIntrospection
    ? observe(LeaseVerifier, "lease_introspection")(Introspection.layer(settings.leaseIntrospection))
    : observe(LeaseVerifier, "postgres", { remembered: ["verify"] })(Claims.layer)
  return Layer.mergeAll(
    ProjectStores.layer(quota).pipe(observe(ProjectStore, "postgres")),
    Duties.layer.pipe(observe(ProjectDuties, "postgres")),
    Messages.layer.pipe(observe(ActorMessages, "postgres")),
    Authenticators.layer.pipe(observe(Authenticator, "postgres", { remembered: ["authenticate"] })),
    ClaimStores.layer.pipe(observe(ClaimStore, "postgres")),
    DatabaseAges.layer.pipe(observe(DatabaseAge, "postgres")),
    lease,
    MetadataStores.layer(quota).pipe(observe(MetadataStore, "postgres")),
    Outboxes.layer.pipe(observe(Outbox, "postgres")),
    RemovalQueues.layer.pipe(observe(RemovalQueue, "postgres")),
    Audits.layer.pipe(observe(Audit, "postgres")),
    AuditTrails.layer.pipe(observe(AuditTrail, "postgres")),
    StoreGuards.layer.pipe(observe(StoreGuard, "postgres")),
  ).pipe(Layer.provideMerge(Layer.mergeAll(Ids.layer, ContentHasher.layer, Layer.succeed(Settings, settings))))
}

/** Its SDK is loaded by nodes that use it. */
const s3 = (options: NonNullable<SettingsShape["s3"]>) =>
  Layer.unwrapEffect(
    Effect.promise(async () => {
      const [store, client] = await Promise.all([import("../BlobStore/S3.ts"), import("../clients/S3.ts")])
      return store.layer.pipe(Layer.provide(client.layer(options)))
    }),
  )

/** S3 when a bucket is named, else files under `directory`. */
export const blobs = (settings: SettingsShape, directory: string) =>
  (settings.s3 ? s3(settings.s3) : BlobFiles.layer({ directory })).pipe(
    observe(BlobStore, "blob_store", { later: { open: "finish" } }),
  )
