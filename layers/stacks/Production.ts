import { join } from "node:path"
import { Layer } from "effect"
import type { SettingsShape } from "../../src/Config.ts"
import * as Postgres from "../clients/Postgres.ts"
import * as Redis from "../clients/Redis.ts"
import * as EventBus from "../EventBus/RedisStream.ts"
import * as Migrations from "../migrations/Migrations.ts"
import * as QuotaCounters from "../QuotaCounters/Redis.ts"
import { blobs, database } from "./Services.ts"

/** Postgres, Redis, and S3 or a shared volume. Refuses a database whose schema is behind. */
export const layer = (settings: SettingsShape, urls: NonNullable<SettingsShape["production"]>) => {
  const postgres = Layer.effectDiscard(Migrations.check).pipe(
    Layer.provideMerge(Postgres.layer({ url: urls.databaseUrl, poolSize: settings.databasePoolSize })),
  )
  const redis = Redis.layer({ url: urls.redisUrl })
  const bus = EventBus.layer({ streamKey: settings.eventStreamKey, maxLength: settings.eventStreamMaxLength })
  return Layer.mergeAll(QuotaCounters.layer, bus, blobs(settings, join(settings.dataDir, "blobs"))).pipe(
    Layer.provideMerge(database(settings)),
    Layer.provide(Layer.merge(postgres, redis)),
  )
}
