import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { type Context, ConfigProvider, Effect, Layer, type Scope } from "effect"
import { Redis } from "ioredis"
import * as AuditMemory from "../../layers/Audit/Memory.ts"
import * as AuthenticatorMemory from "../../layers/Authenticator/Memory.ts"
import * as BlobStoreMemory from "../../layers/BlobStore/Memory.ts"
import * as ClaimStoreMemory from "../../layers/ClaimStore/Memory.ts"
import * as MemoryDatabase from "../../layers/clients/Memory.ts"
import * as NodeCrypto from "../../layers/ContentHasher/NodeCrypto.ts"
import * as EventBusMemory from "../../layers/EventBus/Memory.ts"
import * as IdsRandom from "../../layers/Ids/Random.ts"
import * as LeaseVerifierMemory from "../../layers/LeaseVerifier/Memory.ts"
import * as MetadataStoreMemory from "../../layers/MetadataStore/Memory.ts"
import * as OutboxMemory from "../../layers/Outbox/Memory.ts"
import * as ProjectDutiesMemory from "../../layers/ProjectDuties/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import * as QuotaCountersMemory from "../../layers/QuotaCounters/Memory.ts"
import * as RemovalQueueMemory from "../../layers/RemovalQueue/Memory.ts"
import * as Production from "../../layers/stacks/Production.ts"
import * as StoreGuardMemory from "../../layers/StoreGuard/Memory.ts"
import * as WakeupProcess from "../../layers/Wakeup/Process.ts"
import { ActorMessages } from "../../services/ActorMessages.ts"
import type { Audit } from "../../services/Audit.ts"
import type { Authenticator } from "../../services/Authenticator.ts"
import type { BlobStore } from "../../services/BlobStore.ts"
import type { ClaimStore } from "../../services/ClaimStore.ts"
import type { ContentHasher } from "../../services/ContentHasher.ts"
import type { EventBus } from "../../services/EventBus.ts"
import type { Ids } from "../../services/Ids.ts"
import type { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import type { MetadataStore } from "../../services/MetadataStore.ts"
import type { Outbox } from "../../services/Outbox.ts"
import type { ProjectDuties } from "../../services/ProjectDuties.ts"
import type { ProjectStore } from "../../services/ProjectStore.ts"
import type { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { RemovalQueue } from "../../services/RemovalQueue.ts"
import type { StoreGuard } from "../../services/StoreGuard.ts"
import type { Wakeup } from "../../services/Wakeup.ts"
import * as Config from "../../src/Config.ts"
import { Settings } from "../../src/Config.ts"
import * as Turns from "../../src/turns/Turns.ts"

/** Everything the walks stand on. */
export type Services =
  | ActorMessages
  | Audit
  | Authenticator
  | BlobStore
  | ClaimStore
  | ContentHasher
  | EventBus
  | Ids
  | LeaseVerifier
  | MetadataStore
  | Outbox
  | ProjectDuties
  | ProjectStore
  | QuotaCounters
  | RemovalQueue
  | Settings
  | StoreGuard
  | Turns.Turns
  | Wakeup

export const stackNames = ["memory", "embedded", "production"] as const
export type StackName = (typeof stackNames)[number]

/** Where a stack keeps its data, so that the next process finds them. `postgresUrl` and on: production only. */
export interface Home {
  readonly dataDir: string
  readonly postgresUrl?: string | undefined
  readonly redisUrl?: string | undefined
  readonly streamKey?: string | undefined
}

const settingsOf = (home: Home) => {
  const environment: Record<string, string> = {
    DATA_DIR: home.dataDir,
    URL_SIGNING_SECRET: "0123456789abcdef0123456789abcdef",
    DATABASE_POOL_SIZE: "6",
  }
  if (home.postgresUrl !== undefined && home.redisUrl !== undefined && home.streamKey !== undefined)
    Object.assign(environment, {
      DATABASE_URL: home.postgresUrl,
      REDIS_URL: home.redisUrl,
      EVENT_STREAM_KEY: home.streamKey,
    })
  const provider = ConfigProvider.fromMap(new Map(Object.entries(environment)))
  return Effect.provide(Settings, Layer.provide(Config.layer, Layer.setConfigProvider(provider)))
}

const memory = (settings: Settings["Type"]) => {
  const quota = { defaultQuotaBytes: settings.defaultQuotaBytes }
  return Layer.mergeAll(
    AuditMemory.layer,
    AuthenticatorMemory.layer,
    BlobStoreMemory.layer,
    ClaimStoreMemory.layer,
    NodeCrypto.layer,
    EventBusMemory.layer({ maxLength: settings.eventStreamMaxLength }),
    LeaseVerifierMemory.layer,
    MetadataStoreMemory.layer(quota),
    OutboxMemory.layer,
    ProjectDutiesMemory.layer,
    QuotaCountersMemory.layer.pipe(Layer.provideMerge(ProjectStoreMemory.layer(quota))),
    RemovalQueueMemory.layer,
    StoreGuardMemory.layer,
    WakeupProcess.layer,
    Layer.succeed(ActorMessages, { prune: () => Effect.succeed({ removed: 0, next: undefined }) }),
    Layer.succeed(Settings, settings),
  ).pipe(Layer.provideMerge(Layer.merge(MemoryDatabase.layer, IdsRandom.layer)))
}

const embedded = (settings: Settings["Type"]) =>
  Layer.unwrapEffect(
    Effect.map(
      Effect.promise(() => import("../../layers/stacks/Embedded.ts")),
      (stack) => stack.layer(settings),
    ),
  )

/** The services of a stack over its home, as its node composes them. */
export const open = (name: StackName, home: Home): Effect.Effect<Context.Context<Services>, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    mkdirSync(home.dataDir, { recursive: true, mode: 0o700 })
    const settings = yield* settingsOf(home)
    const stack: Layer.Layer<Exclude<Services, Turns.Turns>, unknown> = name === "memory"
      ? memory(settings)
      : settings.production === undefined
        ? embedded(settings)
        : Production.layer(settings, settings.production)
    return yield* Layer.build(Layer.merge(stack, Turns.layer))
  })

/** What happens to a stream on Redis: it is lost, or one of its entries is. */
export const stream = ({ redisUrl, streamKey }: Home) => {
  const ask = (question: (redis: Redis, key: string) => Promise<unknown>) =>
    Effect.promise(async () => {
      if (redisUrl === undefined || streamKey === undefined) return
      const redis = new Redis(redisUrl)
      await question(redis, streamKey).finally(() => redis.disconnect())
    })
  return {
    lose: ask((redis, key) => redis.del(key)),
    loseEntry: (sequence: number) => ask((redis, key) => redis.xdel(key, `${sequence}-0`)),
  }
}

export const blobFolder = ({ dataDir }: Home) => join(dataDir, "blobs")
