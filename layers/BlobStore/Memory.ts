import { Clock, DateTime, Effect, Layer, Stream } from "effect"
import { BlobMissing, BlobStore } from "../../services/BlobStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { checkKey } from "./keys.ts"
import { traced } from "../../src/telemetry/Spans.ts"

interface Stored {
  readonly bytes: Uint8Array
  readonly modifiedAt: DateTime.Utc
}

const make = Effect.sync(() => {
  const objects = new Map<string, Stored>()
  let identity: string | undefined
  const find = (key: string) =>
    Effect.suspend(() => {
      const stored = objects.get(checkKey(key))
      return stored ? Effect.succeed(stored) : new BlobMissing({ key })
    })

  return BlobStore.of({
    open: traced("BlobStore.open")((key, { size }) =>
      Effect.acquireRelease(
        Effect.sync(() => ({ key: checkKey(key), chunks: [] as Array<Uint8Array>, bytes: 0 })),
        (draft) => Effect.sync(() => void draft.chunks.splice(0)),
      ).pipe(
        Effect.map((draft) => ({
          write: (chunk: Uint8Array) => {
            draft.chunks.push(Uint8Array.from(chunk))
            draft.bytes += chunk.length
            return undefined
          },
          finish: Effect.gen(function* () {
            if (size !== undefined && size !== draft.bytes)
              return yield* new DependencyUnavailable({
                dependency: "blob_store",
                operation: "finish",
                cause: new Error(`${draft.bytes} bytes came instead of ${size}`),
              })
            const modifiedAt = DateTime.unsafeMake(yield* Clock.currentTimeMillis)
            objects.set(draft.key, { bytes: Buffer.concat(draft.chunks), modifiedAt })
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
    list: ({ before }) =>
      Stream.suspend(() =>
        Stream.fromIterable(
          [...objects]
            .filter(([, { modifiedAt }]) => DateTime.lessThan(modifiedAt, before))
            .map(([key, { bytes, modifiedAt }]) => ({ key, size: bytes.length, modifiedAt })),
        ),
      ),
    removePartials: () => Effect.succeed(0),
    signedUrl: () => Effect.succeed(undefined),
    identify: (storeId) => Effect.sync(() => (identity ??= storeId)),
    ping: Effect.void,
  })
})

/** Objects in the process's memory, gone with it. */
export const layer = Layer.effect(BlobStore, make)
