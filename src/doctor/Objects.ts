import { Chunk, DateTime, Effect, Stream } from "effect"
import { Audit, type StoredArtifact } from "../../services/Audit.ts"
import { type BlobStat, BlobStore } from "../../services/BlobStore.ts"
import { ContentHasher } from "../../services/ContentHasher.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Findings } from "./Report.ts"

/** Rows, or objects, held in memory at once. */
const page = 500
/** Objects asked for at the same time. */
const concurrency = 32

/** Sleeps so that no more than so many bytes a second are read, over the whole run. */
const pacing = (bytesPerSecond: number) =>
  Effect.map(Effect.clock, (clock) => {
    const began = clock.unsafeCurrentTimeMillis()
    let read = 0
    return (bytes: number) => {
      read += bytes
      const ahead = (read / bytesPerSecond) * 1000 - (clock.unsafeCurrentTimeMillis() - began)
      return ahead > 20 ? Effect.sleep(ahead) : Effect.void
    }
  })

/** The SHA-256 of an object's bytes, hex, read at the pace. */
const digestOf = Effect.fnUntraced(function* (
  { blobKey, size }: StoredArtifact,
  paced: (bytes: number) => Effect.Effect<void>,
) {
  const reader = yield* (yield* BlobStore).read(blobKey, { offset: 0, length: size })
  const hash = (yield* ContentHasher).start()
  for (;;) {
    const chunk = yield* Effect.tryPromise({
      try: () => reader.next(),
      catch: (cause) => new DependencyUnavailable({ dependency: "blob_store", operation: "BlobStore.read", cause }),
    })
    if (chunk === undefined) return hash.digest().sha256
    hash.update(chunk)
    yield* paced(chunk.length)
  }
}, Effect.scoped)

/** Every ready artifact has its object, of its size and, when asked for, of its digest. */
export const rowsHaveObjects = (scrubBytesPerSecond: number | undefined) =>
  Effect.gen(function* () {
    const audit = yield* Audit
    const blobs = yield* BlobStore
    const { found } = yield* Findings
    const paced = scrubBytesPerSecond === undefined ? undefined : yield* pacing(scrubBytesPerSecond)

    /** A row deleted since it was read is no finding. */
    const unlessDeleted = (row: StoredArtifact, telling: Effect.Effect<void>) =>
      Effect.flatMap(audit.stillReady([row.id]), (ready) => (ready.length > 0 ? telling : Effect.void))
    const look = (row: StoredArtifact) =>
      Effect.gen(function* () {
        const named = { project: row.project, artifact: row.id, blob_key: row.blobKey }
        const missing = unlessDeleted(row, found("bytes_missing", { ...named, size: row.size }))
        yield* Effect.gen(function* () {
          const { size } = yield* blobs.stat(row.blobKey)
          if (size !== row.size)
            return yield* unlessDeleted(row, found("size_differs", { ...named, size: row.size, stored: size }))
          if (paced === undefined) return
          const sha256 = yield* digestOf(row, paced)
          if (sha256 !== row.sha256)
            yield* unlessDeleted(row, found("digest_differs", { ...named, sha256: row.sha256, stored: sha256 }))
        }).pipe(Effect.catchTag("BlobMissing", () => missing))
      })

    let examined = 0
    for (let after: string | undefined; ;) {
      const rows = yield* audit.ready(after, page)
      yield* Effect.forEach(rows, look, { concurrency: paced === undefined ? concurrency : 1, discard: true })
      examined += rows.length
      after = rows.at(-1)?.id
      if (after === undefined) return examined
    }
  })

/** Every object is known to the database; what a delete or a sweep removed since it was listed is no finding. */
export const objectsHaveRows = Effect.gen(function* () {
  const metadata = yield* MetadataStore
  const blobs = yield* BlobStore
  const { found } = yield* Findings
  const tell = (key: string) =>
    blobs.stat(key).pipe(
      Effect.flatMap(({ modifiedAt, size }) =>
        found("object_unknown", { blob_key: key, size, modified_at: DateTime.formatIso(modifiedAt) }),
      ),
      Effect.catchTag("BlobMissing", () => Effect.void),
    )
  const look = (examined: number, group: Chunk.Chunk<BlobStat>) =>
    Effect.gen(function* () {
      const unknown = yield* metadata.unknownBlobKeys(Chunk.toReadonlyArray(group).map(({ key }) => key))
      yield* Effect.forEach(unknown, tell, { concurrency, discard: true })
      return examined + group.length
    })
  return yield* blobs.list().pipe(Stream.grouped(page), Stream.runFoldEffect(0, look))
})
