import { MessageStorage, RunnerHealth, Runners, RunnerStorage, Sharding, ShardingConfig } from "@effect/cluster"
import { expect, layer } from "@effect/vitest"
import { Cause, Clock, Effect, Either, Fiber, Layer, Metric, MetricState, Schedule, Stream, TestClock } from "effect"
import * as AuthenticatorMemory from "../../layers/Authenticator/Memory.ts"
import * as BlobStoreMemory from "../../layers/BlobStore/Memory.ts"
import * as ClaimStoreMemory from "../../layers/ClaimStore/Memory.ts"
import * as MemoryDatabase from "../../layers/clients/Memory.ts"
import * as EventBusMemory from "../../layers/EventBus/Memory.ts"
import * as IdsRandom from "../../layers/Ids/Random.ts"
import * as MetadataStoreMemory from "../../layers/MetadataStore/Memory.ts"
import * as OutboxMemory from "../../layers/Outbox/Memory.ts"
import * as ProjectDutiesMemory from "../../layers/ProjectDuties/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import * as QuotaCountersMemory from "../../layers/QuotaCounters/Memory.ts"
import * as RemovalQueueMemory from "../../layers/RemovalQueue/Memory.ts"
import * as StoreGuardMemory from "../../layers/StoreGuard/Memory.ts"
import * as WakeupProcess from "../../layers/Wakeup/Process.ts"
import { ActorMessages } from "../../services/ActorMessages.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { EventBus } from "../../services/EventBus.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { Outbox } from "../../services/Outbox.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import * as Actors from "../../src/actors/Actors.ts"
import { reconcile, sweep } from "../../src/actors/Project.ts"
import { removals } from "../../src/actors/Removals.ts"
import { pruneEvents } from "../../src/actors/Pruning.ts"
import * as Ticks from "../../src/actors/Ticks.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { beginUpload, callerOf, freshProject, live, publish, removeAs, requestOf, rightOf } from "../suites/fixtures.ts"
import { books, usage } from "../suites/quotaScene.ts"

const quota = { defaultQuotaBytes: 5_000 }

const memory = Layer.mergeAll(AuthenticatorMemory.layer, QuotaCountersMemory.layer).pipe(
  Layer.provideMerge(
    Layer.mergeAll(
      BlobStoreMemory.layer,
      ClaimStoreMemory.layer,
      EventBusMemory.layer({ maxLength: 1_000 }),
      MetadataStoreMemory.layer(quota),
      OutboxMemory.layer,
      ProjectDutiesMemory.layer,
      ProjectStoreMemory.layer(quota),
      RemovalQueueMemory.layer,
      StoreGuardMemory.layer,
      WakeupProcess.layer,
      Layer.succeed(ActorMessages, { prune: () => Effect.succeed({ removed: 0, next: undefined }) }),
    ),
  ),
  Layer.provideMerge(Layer.merge(MemoryDatabase.layer, IdsRandom.layer)),
)

const stored = (key: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const writer = yield* (yield* BlobStore).open(key, {})
      void writer.write(new Uint8Array(10))
      yield* writer.finish
    }),
  )
const there = (key: string) =>
  Effect.map(Effect.either(Effect.flatMap(BlobStore, ({ stat }) => stat(key))), Either.isRight)

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** An upload on its way: row, reservation and bytes. */
const uploading = (caller: ProjectCaller) =>
  Effect.gen(function* () {
    const { id, upload } = yield* beginUpload(caller)
    yield* (yield* QuotaCounters).reserve(caller.project, id, { need: 10, want: 10 })
    yield* stored(upload.blobKey)
    return { id, key: upload.blobKey }
  })

/** A cluster in memory that looks for messages often. */
const cluster = Sharding.layer.pipe(
  Layer.provideMerge(Runners.layerNoop),
  Layer.provideMerge(MessageStorage.layerMemory),
  Layer.provide([RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
  Layer.provide(ShardingConfig.layer({ entityMessagePollInterval: 200 })),
)

/** A sweep by whoever takes the project over now; 45 s of silence is death. */
const swept = (caller: ProjectCaller) =>
  Effect.flatMap(
    Effect.flatMap(ProjectDuties, ({ take }) => take(caller.project)),
    (epoch) => sweep(caller.project, epoch ?? Number.NaN, 45),
  )

layer(memory)("Duties, on the test's clock", (it) => {
  it.effect(
    "an upload nobody renews ends: row fenced, room given back, bytes removed; a running one is not touched",
    () =>
      Effect.gen(function* () {
        const metadata = yield* MetadataStore
        const caller = yield* newCaller
        const [silent, running] = [yield* uploading(caller), yield* uploading(caller)]
        yield* TestClock.adjust("40 seconds")
        yield* metadata.renew(running.id, 10, rightOf(caller))
        yield* (yield* QuotaCounters).renew(caller.project, running.id, 10)
        expect(yield* swept(caller)).toBe(0)
        yield* TestClock.adjust("10 seconds")
        expect(yield* swept(caller)).toBe(1)
        expect([yield* there(silent.key), yield* there(running.key)]).toEqual([false, true])
        expect((yield* usage(caller.project)).reservedBytes).toBe(10)
        const commit = (id: typeof silent.id) => Effect.flatMap(requestOf(caller, id), metadata.commit)
        expect(Either.isLeft(yield* Effect.either(commit(silent.id)))).toBe(true)
        expect((yield* commit(running.id)).artifact.id).toBe(running.id)
        expect(yield* swept(caller)).toBe(0)
      }),
  )

  it.effect("one sweep ends all dead uploads of its project", () =>
    Effect.gen(function* () {
      const caller = yield* newCaller
      yield* Effect.replicateEffect(beginUpload(caller), 450)
      yield* TestClock.adjust("1 minute")
      expect(yield* swept(caller)).toBe(450)
    }),
  )

  it.effect("bytes that cannot be removed keep their fenced row until they can", () =>
    Effect.gen(function* () {
      const blobs = yield* BlobStore
      const caller = yield* newCaller
      const { key } = yield* uploading(caller)
      yield* TestClock.adjust("1 minute")
      const broken = BlobStore.of({ ...blobs, remove: () => Effect.die("the store is away") })
      expect(yield* Effect.exit(Effect.provideService(swept(caller), BlobStore, broken))).toBeDefined()
      expect(yield* (yield* MetadataStore).unknownBlobKeys([key])).toEqual([])
      yield* TestClock.adjust("1 minute")
      expect(yield* swept(caller)).toBe(1)
      expect([yield* there(key), yield* (yield* MetadataStore).unknownBlobKeys([key])]).toEqual([false, [key]])
    }),
  )

  it.effect("a deleted artifact's object is removed and the removal confirmed; a failed one stays queued", () =>
    Effect.gen(function* () {
      const blobs = yield* BlobStore
      const queue = yield* RemovalQueue
      const caller = yield* newCaller
      const artifact = yield* publish(caller)
      const key = `${caller.project}/${artifact.artifact.id}`
      yield* stored(key)
      yield* removeAs(caller, artifact.artifact.id)
      const before = (yield* queue.backlog).waiting
      const broken = BlobStore.of({ ...blobs, remove: () => Effect.die("the store is away") })
      yield* Effect.exit(Effect.provideService(removals(), BlobStore, broken))
      expect((yield* queue.backlog).waiting).toBe(before)
      yield* TestClock.adjust("10 minutes")
      yield* removals()
      expect([yield* there(key), (yield* queue.backlog).waiting]).toEqual([false, 0])
    }),
  )

  it.effect("reconciliation takes the books over, and pruning leaves unpublished events", () =>
    Effect.gen(function* () {
      const caller = yield* newCaller
      yield* usage(caller.project)
      yield* books(caller.project, { used: 77 })
      const duties = yield* ProjectDuties
      const look = yield* Effect.fork(reconcile(caller.project, (yield* duties.take(caller.project)) ?? Number.NaN))
      // No pod says what moved the books; that is waited for.
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(look)
      expect((yield* usage(caller.project)).usedBytes).toBe(77)
      const outbox = yield* Outbox
      yield* publish(caller)
      const waiting = (yield* outbox.lag).rows
      yield* TestClock.adjust("8 days")
      yield* pruneEvents(7 * 86_400)
      expect((yield* outbox.lag).rows).toBe(waiting)
    }),
  )
})

layer(memory, live)("Actors, as a node runs them", (it) => {
  it.scoped("every duty is done, and outlives rounds that die", () =>
    Effect.gen(function* () {
      const bus = yield* EventBus
      const queue = yield* RemovalQueue
      const caller = yield* newCaller
      let deaths = 0
      const dying = RemovalQueue.of({
        ...queue,
        take: (limit) =>
          Effect.suspend(() => (++deaths < 3 ? Effect.die(new Cause.RuntimeException("a bug")) : queue.take(limit))),
      })
      const duties = Actors.layer({
        sweepSeconds: 1,
        abandonedAfterSeconds: 1,
        orphanSweepSeconds: 1,
        orphanAgeSeconds: 1,
        orphanConfirmSeconds: 1,
        eventRetentionSeconds: 60,
        claimRetentionSeconds: 172_800,
      }).pipe(Layer.provide(cluster), Layer.provide(Layer.succeed(RemovalQueue, dying)))
      const { artifact } = yield* publish(caller)
      const key = `${caller.project}/${artifact.id}`
      yield* stored(key)
      const silent = yield* uploading(caller)
      yield* stored("orphan/here")
      yield* Layer.build(duties)
      yield* removeAs(caller, artifact.id)
      const events = bus.subscribe(0).pipe(Stream.take(2), Stream.runCollect, Effect.timeout("5 seconds"))
      expect([...(yield* events)].map(({ type }) => type)).toEqual(["artifact.created", "artifact.deleted"])
      const gone = Effect.map(Effect.forEach([key, silent.key, "orphan/here"], there), (found) => !found.includes(true))
      yield* Effect.repeat(gone, { until: (all) => all, schedule: Schedule.spaced(100) }).pipe(
        Effect.timeout("10 seconds"),
      )
      expect([deaths >= 3, (yield* queue.backlog).waiting]).toEqual([true, 0])
    }),
  )

  it.scoped("a duty that fails does not stop the others, and each says when it was last done", () =>
    Effect.gen(function* () {
      const outbox = yield* Outbox
      const away = new DependencyUnavailable({ dependency: "postgres", operation: "Outbox.prune", cause: "a test" })
      const broken = Outbox.of({ ...outbox, prune: () => away })
      const ticks = Ticks.layer(
        {
          sweepSeconds: 1,
          abandonedAfterSeconds: 60,
          orphanSweepSeconds: 1,
          orphanAgeSeconds: 60,
          orphanConfirmSeconds: 60,
          eventRetentionSeconds: 60,
          claimRetentionSeconds: 172_800,
        },
        1,
      )
      yield* Layer.build(ticks.pipe(Layer.provide(cluster), Layer.provide(Layer.succeed(Outbox, broken))))
      const doneSince = (since: number) =>
        Effect.map(Metric.snapshot, (pairs) =>
          pairs.flatMap(({ metricKey, metricState }) =>
            metricKey.name === "artifact_duty_last_success_timestamp_seconds" &&
            MetricState.isGaugeState(metricState) &&
            Number(metricState.value) > since
              ? [...metricKey.tags].map(({ value }) => value)
              : [],
          ),
        )
      const began = (yield* Clock.currentTimeMillis) / 1000
      const others = ["projects", "orphans", "watermark", "prune_tokens", "prune_claims", "prune_messages"]
      yield* Effect.repeat(doneSince(began), {
        until: (done) => others.every((duty) => done.includes(duty)),
        schedule: Schedule.spaced(100),
      }).pipe(Effect.timeout("10 seconds"))
      expect(yield* doneSince(0)).not.toContain("prune_events")
    }),
  )
})
