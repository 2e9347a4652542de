import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Either, Layer, TestClock } from "effect"
import * as AuthenticatorMemory from "../../layers/Authenticator/Memory.ts"
import * as BlobStoreMemory from "../../layers/BlobStore/Memory.ts"
import * as MemoryDatabase from "../../layers/clients/Memory.ts"
import * as IdsRandom from "../../layers/Ids/Random.ts"
import * as MetadataStoreMemory from "../../layers/MetadataStore/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import * as StoreGuardMemory from "../../layers/StoreGuard/Memory.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { sweepStore } from "../../src/actors/Orphans.ts"
import { acceptRestore, checkWatermark, markStore } from "../../src/actors/Watermark.ts"
import { beginUpload, callerOf, freshProject, publish } from "../suites/fixtures.ts"

const quota = { defaultQuotaBytes: 5_000 }

/** A database and a store of its own for each test. */
const memory = Layer.mergeAll(AuthenticatorMemory.layer, ProjectStoreMemory.layer(quota)).pipe(
  Layer.provideMerge(Layer.mergeAll(BlobStoreMemory.layer, MetadataStoreMemory.layer(quota), StoreGuardMemory.layer)),
  Layer.provideMerge(Layer.merge(MemoryDatabase.layer, IdsRandom.layer)),
  Layer.fresh,
)

const stored = (key: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const writer = yield* (yield* BlobStore).open(key, {})
      void writer.write(new Uint8Array(10))
      yield* writer.finish
    }),
  )
const there = (...keys: ReadonlyArray<string>) =>
  Effect.forEach(keys, (key) =>
    Effect.map(Effect.either(Effect.flatMap(BlobStore, ({ stat }) => stat(key))), Either.isRight),
  )
const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

const swept = (budget = { objects: 1_000_000, seconds: 300 }) =>
  sweepStore({ ageSeconds: 1800, confirmSeconds: 86_400, budget })

layer(Layer.empty)("The sweep of the store, on the test's clock", (it) => {
  const story = <A, E>(name: string, run: Effect.Effect<A, E, Layer.Layer.Success<typeof memory>>) =>
    it.effect(name, () => Effect.provide(run, memory))

  story(
    "an unknown object goes after two looks a day apart, and none that is known, young or asked for meanwhile",
    Effect.gen(function* () {
      const guard = yield* StoreGuard
      const caller = yield* newCaller
      const known = (yield* beginUpload(caller)).upload.blobKey
      yield* stored("orphan/old")
      yield* stored(known)
      yield* TestClock.adjust("1 hour")
      yield* stored("orphan/young")
      yield* swept()
      yield* TestClock.adjust("23 hours")
      yield* swept()
      expect(yield* there("orphan/old", known, "orphan/young")).toEqual([true, true, true])
      yield* TestClock.adjust("90 minutes")
      yield* swept()
      expect(yield* there("orphan/old", known, "orphan/young")).toEqual([false, true, true])
      yield* TestClock.adjust("1 day")
      yield* swept()
      expect(yield* there(known, "orphan/young")).toEqual([true, false])
      expect(yield* guard.dueCandidates({ confirmSeconds: 0, limit: 10 })).toEqual([])
    }),
  )

  story(
    "an object that a row knows at the second look stays, and is no candidate any more",
    Effect.gen(function* () {
      const caller = yield* newCaller
      yield* stored(`${caller.project}/late`)
      yield* TestClock.adjust("1 hour")
      yield* swept()
      yield* beginUpload(caller, { blobKey: `${caller.project}/late` })
      yield* TestClock.adjust("25 hours")
      yield* swept()
      expect(yield* there(`${caller.project}/late`)).toEqual([true])
      expect(yield* (yield* StoreGuard).dueCandidates({ confirmSeconds: 0, limit: 10 })).toEqual([])
    }),
  )

  story(
    "unfinished writes go once old when their upload has ended, and never while it lives",
    Effect.scoped(
      Effect.gen(function* () {
        const blobs = yield* BlobStore
        const metadata = yield* MetadataStore
        const caller = yield* newCaller
        const [living, fenced] = [yield* beginUpload(caller), yield* beginUpload(caller)]
        yield* metadata.fence(fenced.id)
        const writers = yield* Effect.forEach([living.upload.blobKey, fenced.upload.blobKey, "nobody/s"], (key) =>
          blobs.open(key, {}),
        )
        yield* TestClock.adjust("20 minutes")
        yield* swept()
        const young = yield* blobs.open("nobody/young", {})
        yield* TestClock.adjust("20 minutes")
        yield* swept()
        const finished = yield* Effect.forEach([...writers, young], ({ finish }) => Effect.either(finish))
        expect(finished.map(Either.isRight)).toEqual([true, false, false, true])
      }),
    ),
  )

  story(
    "a listing that is cut into slices comes to its end, and finds what one run would",
    Effect.gen(function* () {
      const guard = yield* StoreGuard
      const keys = Array.from({ length: 2500 }, (_, n) => `orphan/${String(n).padStart(4, "0")}`)
      yield* Effect.forEach(keys, stored, { discard: true })
      yield* TestClock.adjust("1 hour")
      const slices: Array<string | undefined> = []
      for (let run = 0; run < 3; run++) {
        yield* swept({ objects: 1000, seconds: 300 })
        slices.push((yield* guard.takeListing).after)
      }
      expect(slices).toEqual(["orphan/0999", "orphan/1999", undefined])
      expect(yield* guard.dueCandidates({ confirmSeconds: 0, limit: 10_000 })).toHaveLength(2500)
    }),
  )

  story(
    "whoever lost the listing to another stops, and both together miss nothing",
    Effect.gen(function* () {
      const guard = yield* StoreGuard
      yield* Effect.forEach(["orphan/a", "orphan/b"], stored)
      yield* TestClock.adjust("1 hour")
      const taking = Effect.zipRight(guard.takeListing, guard.suspect(["orphan/a"]))
      const slow = StoreGuard.of({ ...guard, suspect: (keys) => Effect.zipRight(taking, guard.suspect(keys)) })
      yield* Effect.provideService(swept(), StoreGuard, slow)
      expect((yield* guard.takeListing).after).toBeUndefined()
      expect(yield* guard.dueCandidates({ confirmSeconds: 0, limit: 10 })).toHaveLength(2)
    }),
  )

  story(
    "a store that was marked by a newer state of the database keeps all it has until an operator's word",
    Effect.gen(function* () {
      const guard = yield* StoreGuard
      const blobs = yield* BlobStore
      const caller = yield* newCaller
      yield* publish(caller)
      yield* markStore()
      expect(yield* checkWatermark()).toBeUndefined()
      yield* blobs.setWatermark(
        JSON.stringify({
          mark: "of a state that was lost",
          sequence: 42,
          made_at: DateTime.formatIso(yield* DateTime.now),
        }),
      )
      yield* stored("orphan/since-the-backup")
      yield* TestClock.adjust("1 hour")
      yield* swept()
      yield* publish(caller)
      yield* markStore()
      yield* TestClock.adjust("3 days")
      yield* swept()
      expect(yield* there("orphan/since-the-backup")).toEqual([true])
      expect((yield* guard.hold)?.reason).toContain("event sequence 42")
      expect(yield* blobs.watermark).toContain("of a state that was lost")

      yield* acceptRestore
      expect(yield* checkWatermark()).toBeUndefined()
      yield* swept()
      expect(yield* there("orphan/since-the-backup")).toEqual([true])
      yield* TestClock.adjust("25 hours")
      yield* swept()
      expect(yield* there("orphan/since-the-backup")).toEqual([false])
    }),
  )

  story(
    "a hold that comes while candidates are removed stops the rest of them",
    Effect.gen(function* () {
      const guard = yield* StoreGuard
      const blobs = yield* BlobStore
      const keys = Array.from({ length: 250 }, (_, n) => `orphan/${n}`)
      yield* Effect.forEach(keys, stored, { discard: true })
      yield* TestClock.adjust("1 hour")
      yield* swept()
      yield* TestClock.adjust("25 hours")
      const holding = BlobStore.of({
        ...blobs,
        remove: (key) => Effect.zipRight(guard.holdRemovals("a doubt"), blobs.remove(key)),
      })
      yield* Effect.provideService(swept(), BlobStore, holding)
      expect((yield* there(...keys)).filter((stays) => !stays)).toHaveLength(100)
    }),
  )

  story(
    "an unreadable watermark is a doubt too, and a store without one is none",
    Effect.gen(function* () {
      expect(yield* checkWatermark()).toBeUndefined()
      yield* (yield* BlobStore).setWatermark("not what this program writes")
      expect((yield* checkWatermark())?.reason).toContain("cannot be read")
    }),
  )
})
