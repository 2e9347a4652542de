import { Effect, Layer, Redacted } from "effect"
import * as Audit from "../../layers/Audit/Postgres.ts"
import * as AuditTrail from "../../layers/AuditTrail/Postgres.ts"
import * as Authenticator from "../../layers/Authenticator/Postgres.ts"
import * as ClaimStore from "../../layers/ClaimStore/Postgres.ts"
import * as DatabaseAge from "../../layers/DatabaseAge/Postgres.ts"
import * as Embedded from "../../layers/clients/Embedded.ts"
import * as Postgres from "../../layers/clients/Postgres.ts"
import * as Ids from "../../layers/Ids/Random.ts"
import * as Claims from "../../layers/LeaseVerifier/Claims.ts"
import * as MetadataStore from "../../layers/MetadataStore/Postgres.ts"
import * as Migrations from "../../layers/migrations/Migrations.ts"
import * as Outbox from "../../layers/Outbox/Postgres.ts"
import * as ProjectDuties from "../../layers/ProjectDuties/Postgres.ts"
import * as ProjectStore from "../../layers/ProjectStore/Postgres.ts"
import * as RemovalQueue from "../../layers/RemovalQueue/Postgres.ts"
import * as StoreGuard from "../../layers/StoreGuard/Postgres.ts"
import { createDatabase } from "../support/postgres.ts"

const quota = { defaultQuotaBytes: 5_000 }

/** Every service of one database; bring a migrated SqlClient. */
const services = Layer.mergeAll(
  Audit.layer,
  AuditTrail.layer,
  Authenticator.layer,
  ClaimStore.layer,
  Claims.layer,
  DatabaseAge.layer,
  MetadataStore.layer(quota),
  Outbox.layer,
  ProjectDuties.layer,
  ProjectStore.layer(quota),
  RemovalQueue.layer,
  StoreGuard.layer,
).pipe(Layer.provideMerge(Ids.layer))

const migrated = Layer.effectDiscard(Migrations.migrate)

/** A fresh database each time it is built. */
export const postgresLayer = (url: string) =>
  Layer.unwrapEffect(
    Effect.map(
      Effect.promise(() => createDatabase({ url })),
      (own) =>
        services.pipe(
          Layer.provideMerge(migrated),
          Layer.provideMerge(Postgres.layer({ url: Redacted.make(own), poolSize: 20 })),
        ),
    ),
  )

/** A fresh database in memory each time it is built. */
export const embeddedLayer = services.pipe(
  Layer.provideMerge(migrated),
  Layer.provideMerge(Embedded.layer({ dataDir: undefined })),
)
