import { Layer } from "effect"
import { Settings, type SettingsShape } from "../../src/Config.ts"
import * as ActorMessages from "../ActorMessages/Postgres.ts"
import * as Authenticator from "../Authenticator/Postgres.ts"
import * as BlobFiles from "../BlobStore/FileSystem.ts"
import * as BlobS3 from "../BlobStore/S3.ts"
import * as ClaimStore from "../ClaimStore/Postgres.ts"
import * as S3Client from "../clients/S3.ts"
import * as ContentHasher from "../ContentHasher/NodeCrypto.ts"
import * as Ids from "../Ids/Random.ts"
import * as Claims from "../LeaseVerifier/Claims.ts"
import * as Introspection from "../LeaseVerifier/Introspection.ts"
import * as MetadataStore from "../MetadataStore/Postgres.ts"
import * as Outbox from "../Outbox/Postgres.ts"
import * as ProjectDuties from "../ProjectDuties/Postgres.ts"
import * as ProjectStore from "../ProjectStore/Postgres.ts"
import * as RemovalQueue from "../RemovalQueue/Postgres.ts"

/** What both nodes share: everything that needs a SqlClient and nothing else. */
export const database = (settings: SettingsShape) => {
  const quota = { defaultQuotaBytes: settings.defaultQuotaBytes }
  const lease = settings.leaseIntrospection ? Introspection.layer(settings.leaseIntrospection) : Claims.layer
  return Layer.mergeAll(
    ProjectStore.layer(quota),
    ProjectDuties.layer,
    ActorMessages.layer,
    Authenticator.layer,
    ClaimStore.layer,
    lease,
    MetadataStore.layer(quota),
    Outbox.layer,
    RemovalQueue.layer,
  ).pipe(Layer.provideMerge(Layer.mergeAll(Ids.layer, ContentHasher.layer, Layer.succeed(Settings, settings))))
}

/** S3 when a bucket is named, else files under `directory`. */
export const blobs = (settings: SettingsShape, directory: string) =>
  settings.s3 ? BlobS3.layer.pipe(Layer.provide(S3Client.layer(settings.s3))) : BlobFiles.layer({ directory })
