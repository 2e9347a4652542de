import { createHash, randomBytes } from "node:crypto"
import { expect, layer } from "@effect/vitest"
import { Chunk, DateTime, Effect, Exit, type Layer, Schedule, Stream } from "effect"
import * as fc from "fast-check"
import { BlobMissing, BlobStore } from "../../services/BlobStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import {
  chunkings,
  type BlobStoreSuiteOptions,
  expectNothing,
  expectWhole,
  feed,
  freshKey,
  get,
  listed,
  partialsOf,
  put,
  sha256,
} from "./blobSteps.ts"

const mebibyte = 1024 * 1024

/** The contract of services/BlobStore, a test a sentence. The store must be the suite's own. */
export const blobStoreSuite = (
  name: string,
  subject: Layer.Layer<BlobStore, unknown>,
  options: BlobStoreSuiteOptions,
) =>
  layer(subject, { excludeTestServices: true })(`BlobStore: ${name}`, (it) => {
    for (const [label, size] of [
      ["of no bytes", 0],
      ["of 1 byte", 1],
      ["of 1 MiB", mebibyte],
      ["of 12 MiB", 12 * mebibyte],
    ] as const)
      for (const known of [true, false])
        it.effect(`an object ${label} comes back as it went in, its size ${known ? "" : "not "}known beforehand`, () =>
          Effect.gen(function* () {
            const key = freshKey()
            const bytes = randomBytes(size)
            yield* put(key, bytes, known ? { size } : {})
            yield* expectWhole(key, bytes)
          }),
        )

    it.effect("any chunking gives the same object", () =>
      Effect.gen(function* () {
        const context = yield* Effect.context<BlobStore>()
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(chunkings, async (sizes) => {
              const key = freshKey()
              const chunks = sizes.map((size) => randomBytes(size))
              const whole = Buffer.concat(chunks)
              const roundTrip = Effect.scoped(
                Effect.gen(function* () {
                  const store = yield* BlobStore
                  const writer = yield* store.open(key, {})
                  for (const chunk of chunks) yield* Effect.promise(async () => writer.write(Uint8Array.from(chunk)))
                  yield* writer.finish
                  yield* expectWhole(key, whole)
                }),
              )
              await Effect.runPromise(Effect.provide(roundTrip, context))
            }),
            { numRuns: 12 },
          ),
        )
      }),
    )

    it.effect("a hundred thousand tiny chunks make one object", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const bytes = randomBytes(300_000)
        yield* put(key, bytes, { chunkBytes: 3 })
        yield* expectWhole(key, bytes)
      }),
    )

    for (const size of [1_000, 12 * mebibyte])
      for (const [label, said] of [
        ["few", size + 1],
        ["many", size - 1],
      ] as const)
        it.effect(`too ${label} bytes for the size said beforehand fail at ${size} and leave nothing`, () =>
          Effect.gen(function* () {
            const key = freshKey()
            const failure = yield* Effect.flip(put(key, randomBytes(size), { size: said }))
            expect(failure).toBeInstanceOf(DependencyUnavailable)
            yield* expectNothing(key)
          }),
        )

    for (const size of [1_000, 12 * mebibyte])
      it.effect(`leaving the scope before the end discards ${size} bytes`, () =>
        Effect.gen(function* () {
          const store = yield* BlobStore
          const key = freshKey()
          yield* Effect.scoped(
            Effect.flatMap(store.open(key, { size: size * 2 }), (writer) => feed(writer, randomBytes(size), 65_536)),
          )
          yield* expectNothing(key)
        }),
      )

    it.effect("an object is invisible until it is finished", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const store = yield* BlobStore
          const key = freshKey()
          const bytes = randomBytes(12 * mebibyte)
          const writer = yield* store.open(key, { size: bytes.length })
          yield* feed(writer, bytes, 65_536)
          expect(yield* Effect.flip(store.stat(key))).toBeInstanceOf(BlobMissing)
          expect(yield* Effect.flip(get(key, { offset: 0, length: 1 }))).toBeInstanceOf(BlobMissing)
          expect((yield* listed()).map((found) => found.key)).not.toContain(key)
          yield* writer.finish
          yield* expectWhole(key, bytes)
        }),
      ),
    )

    it.effect("a range is read, no more and no less", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const bytes = randomBytes(700_000)
        yield* put(key, bytes)
        for (const [offset, length] of [
          [0, 1],
          [0, 700_000],
          [699_999, 1],
          [262_143, 2],
          [100, 600_000],
          [5, 0],
        ] as const)
          expect(sha256(yield* get(key, { offset, length }))).toBe(sha256(bytes.subarray(offset, offset + length)))
      }),
    )

    it.effect("many read one object at once, each its own range, and some leave early", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const key = freshKey()
        const bytes = randomBytes(2 * mebibyte)
        yield* put(key, bytes)
        const readers = Array.from({ length: 40 }, (_, n) => {
          const offset = n * 40_000
          const range = { offset, length: bytes.length - offset }
          return n % 4 === 0
            ? Effect.scoped(Effect.flatMap(store.read(key, range), (reader) => Effect.promise(() => reader.next())))
            : Effect.map(get(key, range), (read) => expect(sha256(read)).toBe(sha256(bytes.subarray(offset))))
        })
        yield* Effect.all(readers, { concurrency: "unbounded", discard: true })
        yield* expectWhole(key, bytes)
      }),
    )

    it.effect("a missing object is told apart from a store that fails", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const key = freshKey()
        expect(yield* Effect.flip(store.stat(key))).toEqual(new BlobMissing({ key }))
        expect(yield* Effect.flip(get(key, { offset: 0, length: 1 }))).toEqual(new BlobMissing({ key }))
      }),
    )

    it.effect("a removed object is gone, and may be removed again", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const key = freshKey()
        yield* put(key, randomBytes(10))
        yield* store.remove(key)
        yield* expectNothing(key)
        yield* store.remove(key)
        yield* store.remove(freshKey())
      }),
    )

    if (options.readersOutliveRemoval === true)
      it.effect("a reader that has begun reads on when the object is removed", () =>
        Effect.scoped(
          Effect.gen(function* () {
            const store = yield* BlobStore
            const key = freshKey()
            const bytes = randomBytes(2 * mebibyte)
            yield* put(key, bytes)
            const reader = yield* store.read(key, { offset: 0, length: bytes.length })
            const hash = createHash("sha256")
            hash.update((yield* Effect.promise(() => reader.next())) ?? "")
            yield* store.remove(key)
            yield* expectNothing(key)
            expect(yield* Effect.flip(get(key, { offset: 0, length: 1 }))).toEqual(new BlobMissing({ key }))
            yield* Effect.promise(async () => {
              for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next()) hash.update(chunk)
            })
            expect(hash.digest("hex")).toBe(sha256(bytes))
          }),
        ),
      )

    it.effect("the list has every object with its size and its time", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const keys = [freshKey(), freshKey(), freshKey()]
        for (const [index, key] of keys.entries()) yield* put(key, randomBytes(index * 100))
        const found = (yield* listed()).filter(({ key }) => keys.includes(key))
        expect(Object.fromEntries(found.map(({ key, size }) => [key, size]))).toEqual(
          Object.fromEntries(keys.map((key, index) => [key, index * 100])),
        )
        for (const one of found) {
          const { modifiedAt } = yield* store.stat(one.key)
          expect(Math.abs(modifiedAt.epochMillis - one.modifiedAt.epochMillis)).toBeLessThan(1_000)
          expect(Math.abs(modifiedAt.epochMillis - (yield* DateTime.now).epochMillis)).toBeLessThan(60_000)
        }
      }),
    )

    it.effect("a list goes on behind any key, be the object there or not, and misses none", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        yield* Effect.forEach(Array.from({ length: 40 }, freshKey), (key) => put(key, randomBytes(1)))
        const whole = (yield* listed()).map(({ key }) => key)
        for (const at of [0, 7, whole.length - 2, whole.length - 1]) {
          const key = whole[at] ?? ""
          expect((yield* listed(key)).map((one) => one.key)).toEqual(whole.slice(at + 1))
          yield* store.remove(key)
          expect((yield* listed(key)).map((one) => one.key)).toEqual(whole.slice(at + 1))
          yield* put(key, randomBytes(1))
        }
      }),
    )

    it.effect("an unfinished write is listed with its key, and once removed cannot be finished", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const store = yield* BlobStore
          const [key, other] = [freshKey(), freshKey()]
          const writer = yield* store.open(key, {})
          const spared = yield* store.open(other, {})
          for (const one of [writer, spared]) yield* feed(one, randomBytes(12 * mebibyte), 65_536)
          const [partial] = yield* Effect.repeat(partialsOf(key), {
            until: (found) => found.length > 0,
            schedule: Schedule.intersect(Schedule.spaced("50 millis"), Schedule.recurs(100)),
          }).pipe(Effect.zipRight(partialsOf(key)))
          if (partial === undefined) return expect.fail("the write is not listed")
          expect(Math.abs(partial.touchedAt.epochMillis - (yield* DateTime.now).epochMillis)).toBeLessThan(60_000)
          yield* store.removePartial(partial)
          yield* store.removePartial(partial)
          expect(yield* partialsOf(key)).toEqual([])
          expect(Exit.isFailure(yield* Effect.exit(writer.finish))).toBe(true)
          expect(yield* Effect.flip(store.stat(key))).toBeInstanceOf(BlobMissing)
          yield* spared.finish
          expect(yield* store.stat(other)).toMatchObject({ size: 12 * mebibyte })
          expect(yield* partialsOf(other)).toEqual([])
        }),
      ),
    )

    it.effect("fifty writers at once keep their bytes apart", () =>
      Effect.forEach(
        Array.from({ length: 50 }, (_, index) => randomBytes(400_000 + index)),
        (bytes) => {
          const key = freshKey()
          return Effect.zipRight(put(key, bytes, { size: bytes.length }), expectWhole(key, bytes))
        },
        { concurrency: "unbounded", discard: true },
      ),
    )

    it.effect("a key that is none is a defect and touches nothing", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const range = { offset: 0, length: 1 }
        for (const key of ["", "../up", "/root", "a//b", "a/", "a.b", "a b", "ä", "a".repeat(201)])
          for (const use of [
            put(key, randomBytes(1)),
            get(key, range),
            store.stat(key),
            store.remove(key),
            ...(options.signsUrls
              ? [store.signedUrl(key, { ttlSeconds: 60, mime: "text/plain", disposition: "attachment" })]
              : []),
          ]) {
            const exit = yield* Effect.exit(use as Effect.Effect<unknown, unknown, BlobStore>)
            expect(Exit.isFailure(exit) && exit.cause._tag).toBe("Die")
          }
      }),
    )

    it.effect("a key of 200 characters is kept", () =>
      Effect.gen(function* () {
        const key = freshKey().padEnd(200, "x")
        yield* put(key, Buffer.from("long"))
        yield* expectWhole(key, Buffer.from("long"))
      }),
    )

    it.effect("an identity is placed when asked for, the first one stays, and it is no object", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        expect(yield* store.identify("store-one", { place: false })).toBeUndefined()
        expect(yield* store.identify("store-one", { place: true })).toBe("store-one")
        expect(yield* store.identify("store-two", { place: true })).toBe("store-one")
        expect(yield* store.identify("store-two", { place: false })).toBe("store-one")
        expect((yield* listed()).filter(({ key }) => key.includes("store"))).toEqual([])
      }),
    )

    it.effect("the watermark is the last text that was set, and no object", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        expect(yield* store.watermark).toBeUndefined()
        yield* store.setWatermark("one")
        expect(yield* store.watermark).toBe("one")
        yield* store.setWatermark("two")
        expect(yield* store.watermark).toBe("two")
        expect((yield* listed()).filter(({ key }) => key.includes("store"))).toEqual([])
        expect(yield* Stream.runCollect(store.partials)).toEqual(Chunk.empty())
      }),
    )

    it.effect("the store answers", () => Effect.flatMap(BlobStore, (store) => store.ping))

    it.effect(options.signsUrls ? "a signed URL serves the object as asked for" : "there are no signed URLs", () =>
      Effect.gen(function* () {
        const store = yield* BlobStore
        const key = freshKey()
        const bytes = randomBytes(100_000)
        yield* put(key, bytes)
        const disposition = 'attachment; filename="report.txt"'
        const signed = yield* store.signedUrl(key, { ttlSeconds: 60, mime: "text/plain", disposition })
        if (!options.signsUrls) return expect(signed).toBeUndefined()
        if (signed === undefined) return expect.fail("no URL was signed")
        const left = signed.expiresAt.epochMillis - (yield* DateTime.now).epochMillis
        expect(left).toBeGreaterThan(50_000)
        expect(left).toBeLessThanOrEqual(60_000)
        const answer = yield* Effect.promise(() => fetch(signed.url))
        expect(answer.status).toBe(200)
        expect(sha256(new Uint8Array(yield* Effect.promise(() => answer.arrayBuffer())))).toBe(sha256(bytes))
        if (options.heedsUrls !== true) return
        expect(answer.headers.get("content-type")).toBe("text/plain")
        expect(answer.headers.get("content-disposition")).toBe(disposition)
        const other = freshKey()
        yield* put(other, bytes)
        const forged = signed.url.replace(key, other)
        expect(forged).not.toBe(signed.url)
        expect((yield* Effect.promise(() => fetch(forged))).status).toBe(403)
      }),
    )
  })
