import { join } from "node:path"
import { Effect, Layer } from "effect"
import type { SettingsShape } from "../../src/Config.ts"
import { SchemaRelease } from "../../src/Lifecycle.ts"
import * as Embedded from "../clients/Embedded.ts"
import * as EventBus from "../EventBus/PostgresLog.ts"
import * as Migrations from "../migrations/Migrations.ts"
import * as QuotaCounters from "../QuotaCounters/Memory.ts"
import * as RateLimiters from "../RateLimiter/Memory.ts"
import * as Wakeup from "../Wakeup/Process.ts"
import { blobs, database } from "./Services.ts"

/**
 * One process on nothing but Node: PGlite and files under `dataDir`, counters in the process, events in the database.
 * The caller holds the lock on `dataDir`.
 */
export const layer = (settings: SettingsShape) => {
  const postgres = Layer.effect(SchemaRelease, Effect.zipRight(Migrations.migrate, Migrations.release)).pipe(
    Layer.provideMerge(Embedded.layer({ dataDir: join(settings.dataDir, "postgres") })),
  )
  const bus = EventBus.layer({ maxLength: settings.eventStreamMaxLength })
  const limit = settings.rateLimitPerKey
  const rateLimiter: Layer.Layer<never> = limit === undefined ? Layer.empty : RateLimiters.layer(limit)
  return Layer.mergeAll(
    QuotaCounters.layer,
    bus,
    Wakeup.layer,
    rateLimiter,
    blobs(settings, join(settings.dataDir, "blobs")),
  ).pipe(Layer.provideMerge(database(settings)), Layer.provideMerge(postgres))
}
