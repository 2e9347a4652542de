import { join } from "node:path"
import { Effect, Layer } from "effect"
import { EventBus } from "../../services/EventBus.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { SettingsShape } from "../../src/Config.ts"
import { SchemaRelease } from "../../src/Lifecycle.ts"
import { observe } from "../../src/telemetry/Dependencies.ts"
import { awaitedWhileServing } from "../../src/Waiting.ts"
import * as DataDir from "../clients/DataDir.ts"
import * as Postgres from "../clients/Postgres.ts"
import { checkServer } from "../clients/ServerChecks.ts"
import * as Redis from "../clients/Redis.ts"
import * as Stream from "../EventBus/RedisStream.ts"
import * as Migrations from "../migrations/Migrations.ts"
import * as Counters from "../QuotaCounters/Redis.ts"
import * as RateLimiters from "../RateLimiter/Redis.ts"
import * as Wakeup from "../Wakeup/Postgres.ts"
import * as Cluster from "./Cluster.ts"
import { blobs, database } from "./Services.ts"

/**
 * Postgres, Redis, and S3 or a shared volume. Refuses a database whose schema is behind. `patient`: statements take as
 * long as they take.
 */
export const layer = (
  settings: SettingsShape,
  urls: NonNullable<SettingsShape["production"]>,
  { patient = false }: { readonly patient?: boolean } = {},
) => {
  const needed = settings.databasePoolSize + clusterConnections + otherConnections
  const postgres = Layer.effect(
    SchemaRelease,
    checkServer({ url: urls.databaseUrl, needed }).pipe(
      Effect.zipRight(Migrations.check),
      Effect.zipRight(Migrations.release),
    ),
  ).pipe(Layer.provideMerge(Postgres.layer({ url: urls.databaseUrl, poolSize: settings.databasePoolSize, patient })))
  const redis = Redis.layer({ url: urls.redisUrl })
  const bus = Stream.layer({ streamKey: settings.eventStreamKey, maxLength: settings.eventStreamMaxLength }).pipe(
    observe(EventBus, "redis"),
  )
  const counters = Counters.layer.pipe(observe(QuotaCounters, "redis"))
  const limit = settings.rateLimitPerKey
  const rateLimiter: Layer.Layer<never, never, Redis.Redis> =
    limit === undefined ? Layer.empty : RateLimiters.layer(limit)
  const wakeup = Wakeup.layer({ url: urls.databaseUrl })
  return Layer.mergeAll(counters, bus, wakeup, rateLimiter, blobs(settings, join(settings.dataDir, "blobs"))).pipe(
    Layer.provideMerge(database(settings)),
    Layer.provideMerge(Layer.service(SchemaRelease)),
    Layer.provide(Layer.merge(postgres, redis)),
    // Before anything that may have to be waited for.
    Layer.provide(settings.s3 === undefined ? DataDir.store(settings) : Layer.empty),
  )
}

/** One that listens, and one a pool for a moment to ask whether the server lives. */
const otherConnections = 3

/** One for the shard locks, two for messages: apart from the requests' pool, so that load cannot cost a pod its shards. */
const clusterConnections = 3

export const cluster = (settings: SettingsShape, urls: NonNullable<SettingsShape["production"]>) =>
  awaitedWhileServing(
    (settings.runner ? Cluster.pods(settings.runner) : Cluster.single).pipe(
      Layer.provide(Postgres.layer({ url: urls.databaseUrl, poolSize: clusterConnections, unprepared: true })),
    ),
  )
