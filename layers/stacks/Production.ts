import { join } from "node:path"
import { Layer } from "effect"
import type { SettingsShape } from "../../src/Config.ts"
import * as Postgres from "../clients/Postgres.ts"
import * as Redis from "../clients/Redis.ts"
import * as EventBus from "../EventBus/RedisStream.ts"
import * as Migrations from "../migrations/Migrations.ts"
import * as QuotaCounters from "../QuotaCounters/Redis.ts"
import * as Wakeup from "../Wakeup/Postgres.ts"
import * as Cluster from "./Cluster.ts"
import { blobs, database } from "./Services.ts"

/** Postgres, Redis, and S3 or a shared volume. Refuses a database whose schema is behind. */
export const layer = (settings: SettingsShape, urls: NonNullable<SettingsShape["production"]>) => {
  const postgres = Layer.effectDiscard(Migrations.check).pipe(
    Layer.provideMerge(Postgres.layer({ url: urls.databaseUrl, poolSize: settings.databasePoolSize })),
  )
  const redis = Redis.layer({ url: urls.redisUrl })
  const bus = EventBus.layer({ streamKey: settings.eventStreamKey, maxLength: settings.eventStreamMaxLength })
  const wakeup = Wakeup.layer({ url: urls.databaseUrl })
  return Layer.mergeAll(QuotaCounters.layer, bus, wakeup, blobs(settings, join(settings.dataDir, "blobs"))).pipe(
    Layer.provideMerge(database(settings)),
    Layer.provide(Layer.merge(postgres, redis)),
  )
}

/** One for the shard locks, two for messages: apart from the requests' pool, so that load cannot cost a pod its shards. */
const clusterConnections = 3

export const cluster = (settings: SettingsShape, urls: NonNullable<SettingsShape["production"]>) =>
  (settings.runner ? Cluster.pods(settings.runner) : Cluster.single).pipe(
    Layer.provide(Postgres.layer({ url: urls.databaseUrl, poolSize: clusterConnections })),
  )
