import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  paginateListObjectsV2,
  PutObjectCommand,
  S3ServiceException,
} from "@aws-sdk/client-s3"
import { getSignedUrl } from "@aws-sdk/s3-request-presigner"
import type { Readable } from "node:stream"
import { Clock, DateTime, Effect, Layer, Option, Stream } from "effect"
import { BlobMissing, BlobStore, UnsuitableStore } from "../../services/BlobStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { S3 } from "../clients/S3.ts"
import { Buffers } from "./Buffers.ts"
import { checkKey } from "./keys.ts"
import { PartBudget } from "./s3/PartBudget.ts"
import { GatheringReader } from "./s3/GatheringReader.ts"
import { S3Writer } from "./s3/S3Writer.ts"
import { held } from "../../src/Held.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"

const prefix = "artifacts/"
const identityKey = "artifact-store-id"
const watermarkKey = "artifact-store-watermark"

const nameOf = (key: string) => prefix + checkKey(key)
const keyOf = (name: string | undefined) => (name ?? "").slice(prefix.length)
const fault = (operation: string) => (cause: unknown) =>
  new DependencyUnavailable({ dependency: "blob_store", operation, cause })
/** A missing bucket is no missing object; HEAD cannot tell the two apart. */
const isMissing = (error: unknown) =>
  error instanceof S3ServiceException && (error.name === "NoSuchKey" || error.name === "NotFound")
const isStatus = (error: unknown, ...statuses: ReadonlyArray<number>) =>
  error instanceof S3ServiceException && statuses.includes(error.$metadata.httpStatusCode ?? 0)

/** Memory of finished reads that is kept for the next ones, in bytes. */
const mostIdleRead = 2 * 1024 * 1024

const make = Effect.gen(function* () {
  const { client, liveness, options, reader: bodies, signer } = yield* S3
  const Bucket = options.bucket
  const budget = new PartBudget(options.partBytes * options.partsInFlight, options.partBytes)
  const buffers = new Buffers(options.partBytes)
  const readBuffers = new Buffers(mostIdleRead)
  const attempt = <A>(operation: string, run: (signal: AbortSignal) => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: fault(operation) })
  const missingOr = (key: string, operation: string) => (error: unknown) =>
    isMissing(error) ? new BlobMissing({ key }) : fault(operation)(error)

  /** A small object of the store's own, outside the prefix of artifacts. */
  const textOf = async (Key: string) => {
    try {
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }))
      return (await Body?.transformToString())?.trim()
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  /** The credentials' own end bounds what they sign. */
  const credentialsEnd = Effect.map(
    attempt("credentials", async () => (await signer.config.credentials()).expiration?.getTime()),
    (end) => end ?? Number.POSITIVE_INFINITY,
  )

  return BlobStore.of({
    open: traced("BlobStore.open")(function* (key, { size }) {
      let finished = false
      const writer = yield* Effect.acquireRelease(
        Effect.sync(() => new S3Writer(client, Bucket, nameOf(key), options.partBytes, budget, buffers)),
        // The abort goes on by itself; what it cannot reach, the aged listing of unfinished uploads does.
        (draft) =>
          finished
            ? Effect.void
            : Effect.ignore(
                Effect.timeoutOption(Effect.interruptible(Effect.tryPromise(() => draft.discard())), "2 seconds"),
              ),
      )
      return {
        write: (chunk) => writer.write(chunk),
        finish: attempt("finish", async () => {
          if (size !== undefined && size !== writer.size)
            throw new Error(`${writer.size} bytes came instead of ${size}`)
          await writer.finish()
          finished = true
        }).pipe(Effect.uninterruptible, spanned("BlobStore.finish")),
      }
    }),

    read: traced("BlobStore.read")(function* (key, { length, offset }) {
      const Key = nameOf(key)
      if (length === 0) return { next: async () => undefined }
      const reader = yield* held(
        Effect.tryPromise({
          try: async (signal) => {
            const answer = await bodies.send(
              new GetObjectCommand({ Bucket, Key, Range: `bytes=${offset}-${offset + length - 1}` }),
              { abortSignal: signal },
            )
            const stream = answer.Body as Readable
            if (answer.ContentLength === length) return new GatheringReader(stream, length, readBuffers)
            stream.destroy()
            throw new Error("the store answered another range")
          },
          catch: missingOr(key, "read"),
        }),
        (opened) => Effect.sync(() => opened.close()),
      )
      return {
        next: () => (reader.atHand ? reader.next() : liveness.guard(reader.next(), (cause) => reader.giveUp(cause))),
      }
    }),

    stat: traced("BlobStore.stat")((key) => {
      const Key = nameOf(key)
      return Effect.tryPromise({
        try: () => client.send(new HeadObjectCommand({ Bucket, Key })),
        catch: missingOr(key, "stat"),
      }).pipe(
        Effect.map(({ ContentLength, LastModified }) => ({
          key,
          size: ContentLength ?? 0,
          modifiedAt: DateTime.unsafeMake(LastModified ?? 0),
        })),
      )
    }),

    remove: traced("BlobStore.remove")((key) => {
      const Key = nameOf(key)
      return attempt("remove", async () => {
        await client.send(new DeleteObjectCommand({ Bucket, Key })).catch((error: unknown) => {
          if (!isMissing(error)) throw error
        })
      })
    }),

    list: ({ after } = {}) =>
      Stream.fromAsyncIterable(
        paginateListObjectsV2(
          { client },
          { Bucket, Prefix: prefix, ...(after !== undefined && { StartAfter: nameOf(after) }) },
        ),
        fault("list"),
      ).pipe(
        Stream.mapConcat(({ Contents }) => Contents ?? []),
        Stream.map(({ Key, LastModified, Size }) => ({
          key: keyOf(Key),
          size: Size ?? 0,
          modifiedAt: DateTime.unsafeMake(LastModified ?? 0),
        })),
      ),

    partials: Stream.paginateEffect({}, (marker: object) =>
      attempt("partials", () =>
        client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: prefix, ...marker })),
      ).pipe(
        Effect.map((page) => [
          page.Uploads ?? [],
          page.IsTruncated === true
            ? Option.some({ KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker })
            : Option.none(),
        ]),
      ),
    ).pipe(
      Stream.mapConcat((uploads) => uploads),
      Stream.map(({ Initiated, Key, UploadId }) => ({
        key: keyOf(Key),
        handle: UploadId ?? "",
        touchedAt: DateTime.unsafeMake(Initiated ?? 0),
      })),
    ),

    removePartial: traced("BlobStore.removePartial")(({ handle, key }) =>
      attempt("removePartial", async () => {
        const upload = { Bucket, Key: prefix + key, UploadId: handle }
        await client.send(new AbortMultipartUploadCommand(upload)).catch((error: unknown) => {
          if (!(error instanceof S3ServiceException && error.name === "NoSuchUpload")) throw error
        })
      }),
    ),

    signedUrl: traced("BlobStore.signedUrl")(function* (key, { disposition, mime, ttlSeconds }) {
      const Key = nameOf(key)
      const now = yield* Clock.currentTimeMillis
      const end = Math.min(now + ttlSeconds * 1000, yield* credentialsEnd)
      const expiresIn = Math.max(1, Math.floor((end - now) / 1000))
      const url = yield* attempt("signedUrl", () =>
        getSignedUrl(
          signer,
          new GetObjectCommand({
            Bucket,
            Key,
            ResponseContentType: mime,
            ResponseContentDisposition: disposition,
            ResponseCacheControl: "private, no-cache",
          }),
          { expiresIn },
        ),
      )
      return { url, expiresAt: DateTime.unsafeMake(now + expiresIn * 1000) }
    }),

    identify: traced("BlobStore.identify")(function* (storeId, { place }) {
      const versioning = yield* attempt("identify", () => client.send(new GetBucketVersioningCommand({ Bucket })))
      if (versioning.Status === "Enabled")
        return yield* new UnsuitableStore({
          reason: `S3_BUCKET "${Bucket}" is versioned, so that a delete would delete nothing: use a bucket without versioning.`,
        })
      return yield* attempt("identify", async () => {
        const found = await textOf(identityKey)
        if (found !== undefined || !place) return found
        // Two pods at once: the one that comes second is refused, and reads what the first wrote.
        await client
          .send(new PutObjectCommand({ Bucket, Key: identityKey, Body: storeId, IfNoneMatch: "*" }))
          .catch((error: unknown) => {
            if (!isStatus(error, 409, 412)) throw error
          })
        return await textOf(identityKey)
      })
    }),

    watermark: attempt("watermark", () => textOf(watermarkKey)),

    setWatermark: traced("BlobStore.setWatermark")((text) =>
      Effect.asVoid(
        attempt("setWatermark", () => client.send(new PutObjectCommand({ Bucket, Key: watermarkKey, Body: text }))),
      ),
    ),

    ping: Effect.asVoid(
      attempt("ping", (signal) => client.send(new HeadBucketCommand({ Bucket }), { abortSignal: signal })).pipe(
        Effect.timeoutFail({ duration: "2 seconds", onTimeout: () => fault("ping")(new Error("no answer in time")) }),
      ),
    ),
  })
})

/** Objects under `artifacts/` in one bucket. */
export const layer = Layer.effect(BlobStore, make)
