import { DateTime, Effect, Layer, Stream } from "effect"
import { BlobMissing, BlobStore } from "../../services/BlobStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { checkKey } from "./keys.ts"
import { traced } from "../../src/telemetry/Spans.ts"

interface Stored {
  readonly bytes: Uint8Array
  readonly modifiedAt: DateTime.Utc
}

interface Draft {
  readonly key: string
  readonly begunAt: DateTime.Utc
  readonly chunks: Array<Uint8Array>
  bytes: number
}

const fault = (operation: string, message: string) =>
  new DependencyUnavailable({ dependency: "blob_store", operation, cause: new Error(message) })

const make = Effect.sync(() => {
  const objects = new Map<string, Stored>()
  /** Unfinished writes by their handles. */
  const drafts = new Map<string, Draft>()
  let begun = 0
  let identity: string | undefined
  let watermark: string | undefined
  const find = (key: string) =>
    Effect.suspend(() => {
      const stored = objects.get(checkKey(key))
      return stored ? Effect.succeed(stored) : new BlobMissing({ key })
    })

  return BlobStore.of({
    open: traced("BlobStore.open")((key, { size }) =>
      Effect.acquireRelease(
        Effect.map(DateTime.now, (begunAt) => {
          const handle = String(++begun)
          const draft: Draft = { key: checkKey(key), begunAt, chunks: [], bytes: 0 }
          drafts.set(handle, draft)
          return { handle, draft }
        }),
        ({ draft, handle }) =>
          Effect.sync(() => {
            drafts.delete(handle)
            draft.chunks.splice(0)
          }),
      ).pipe(
        Effect.map(({ draft, handle }) => ({
          write: (chunk: Uint8Array) => {
            draft.chunks.push(Uint8Array.from(chunk))
            draft.bytes += chunk.length
            return undefined
          },
          finish: Effect.gen(function* () {
            if (size !== undefined && size !== draft.bytes)
              return yield* fault("finish", `${draft.bytes} bytes came instead of ${size}`)
            if (!drafts.delete(handle)) return yield* fault("finish", "the write was removed")
            objects.set(draft.key, { bytes: Buffer.concat(draft.chunks), modifiedAt: yield* DateTime.now })
          }),
        })),
      ),
    ),
    read: traced("BlobStore.read")((key, { length, offset }) =>
      Effect.map(find(key), ({ bytes }) => {
        let at = offset
        return {
          next: async () => {
            if (at >= offset + length) return undefined
            const chunk = bytes.slice(at, Math.min(at + 65_536, offset + length))
            if (chunk.length === 0) throw new Error("the range reaches beyond the object")
            at += chunk.length
            return chunk
          },
        }
      }),
    ),
    stat: (key) => Effect.map(find(key), ({ bytes, modifiedAt }) => ({ key, size: bytes.length, modifiedAt })),
    remove: (key) => Effect.sync(() => void objects.delete(checkKey(key))),
    list: ({ after } = {}) =>
      Stream.suspend(() =>
        Stream.fromIterable(
          [...objects]
            .filter(([key]) => after === undefined || key > after)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, { bytes, modifiedAt }]) => ({ key, size: bytes.length, modifiedAt })),
        ),
      ),
    partials: Stream.suspend(() =>
      Stream.fromIterable([...drafts].map(([handle, { begunAt, key }]) => ({ key, handle, touchedAt: begunAt }))),
    ),
    removePartial: ({ handle }) => Effect.sync(() => void drafts.delete(handle)),
    signedUrl: () => Effect.succeed(undefined),
    identify: (storeId, { place }) => Effect.sync(() => (place ? (identity ??= storeId) : identity)),
    watermark: Effect.sync(() => watermark),
    setWatermark: (text) =>
      Effect.sync(() => {
        watermark = text
      }),
    ping: Effect.void,
  })
})

/** Objects in the process's memory, gone with it. */
export const layer = Layer.effect(BlobStore, make)
