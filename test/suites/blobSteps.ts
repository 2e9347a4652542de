import { createHash, randomUUID } from "node:crypto"
import { expect } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import * as fc from "fast-check"
import { BlobMissing, BlobStore, type BlobWriter } from "../../services/BlobStore.ts"

export interface BlobStoreSuiteOptions {
  /** The store signs URLs of its own. */
  readonly signsUrls: boolean
  /** The server behind the URLs gives the headers they ask for and refuses a forged one. */
  readonly heedsUrls?: boolean
  /** A reader that has begun reads to the end although the object is removed. */
  readonly readersOutliveRemoval?: boolean
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")
export const freshKey = () => `suite/${randomUUID()}`

export const feed = (writer: BlobWriter, bytes: Uint8Array, chunkBytes: number) =>
  Effect.promise(async () => {
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      // The writer owns its chunks, hence a copy.
      const chunk = Buffer.from(bytes.subarray(at, at + chunkBytes))
      const wait = writer.write(chunk)
      if (wait !== undefined) await wait
      // The chunk is the caller's again.
      chunk.fill(0)
    }
  })

export const put = (
  key: string,
  bytes: Uint8Array,
  options: { readonly size?: number; readonly chunkBytes?: number } = {},
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* BlobStore
      const writer = yield* store.open(key, { size: options.size })
      yield* feed(writer, bytes, options.chunkBytes ?? 65_536)
      yield* writer.finish
    }),
  )

export const get = (key: string, range: { readonly offset: number; readonly length: number }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* BlobStore
      const reader = yield* store.read(key, range)
      return yield* Effect.promise(async () => {
        const chunks: Array<Uint8Array> = []
        for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next())
          chunks.push(Buffer.from(chunk))
        return Buffer.concat(chunks)
      })
    }),
  )

export const expectWhole = (key: string, bytes: Uint8Array) =>
  Effect.gen(function* () {
    const store = yield* BlobStore
    expect(yield* store.stat(key)).toMatchObject({ key, size: bytes.length })
    const back = yield* get(key, { offset: 0, length: bytes.length })
    expect(back.length).toBe(bytes.length)
    expect(sha256(back)).toBe(sha256(bytes))
  })

export const listed = (after?: string) =>
  Effect.flatMap(BlobStore, (store) => Effect.map(Stream.runCollect(store.list({ after })), Chunk.toReadonlyArray))

/** Unfinished writes of one key. */
export const partialsOf = (key: string) =>
  Effect.flatMap(BlobStore, (store) =>
    Effect.map(Stream.runCollect(store.partials), (all) => [...all].filter((one) => one.key === key)),
  )

export const expectNothing = (key: string) =>
  Effect.gen(function* () {
    const store = yield* BlobStore
    expect(yield* Effect.flip(store.stat(key))).toBeInstanceOf(BlobMissing)
    expect((yield* listed()).map((found) => found.key)).not.toContain(key)
    expect(yield* partialsOf(key)).toEqual([])
  })

/** Sizes of chunks in bytes: tiny, small and large ones mixed. */
export const chunkings = fc.array(
  fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 1, max: 9_000 }), fc.integer({ min: 1, max: 700_000 })),
  { maxLength: 60 },
)
