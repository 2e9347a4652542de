import { Cause, Effect, Exit, Fiber, Runtime, Schedule } from "effect"
import type { LeaseInvalid, LeaseLost } from "../domain/Claim.ts"
import type { ArtifactId, ProjectHandle } from "../domain/Ids.ts"
import { Settings } from "../Config.ts"
import { held } from "../Held.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import type { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { MetadataStore, type UploadRight } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import type { Fields } from "./Fields.ts"
import type { FileSink } from "./Receive.ts"
import { BadRequest, PayloadTooLarge } from "./Refusals.ts"
import { traced } from "../telemetry/Spans.ts"

/** What a multipart body may hold besides its file: names, metadata, boundaries and headers, generously. Bytes. */
export const bodyOverheadBytes = 128 * 1024

/** How often an upload says that it lives, in milliseconds: several times before a sweep takes its silence for death. */
const renewEvery = (abandonedAfterSeconds: number) => Math.min(10_000, abandonedAfterSeconds * 250)

const minimalStep = 256 * 1024
const maximalStep = 16 * 1024 * 1024

/** One upload on its way: its names, and what it holds reserved at the moment, in bytes. */
export interface Upload {
  readonly id: ArtifactId
  readonly project: ProjectHandle
  readonly blobKey: string
  reservedBytes: number
  /** It was committed or given up, and so was its reservation: a renewal that is still on its way must not bring it back. */
  over: boolean
}

/** The first reservation: what the body's length says is needed at least, and wanted at most; a step when it is unknown. */
export const firstRequest = (contentLength: number | undefined, maxBytes: number) => ({
  need: contentLength === undefined ? 0 : Math.max(0, contentLength - bodyOverheadBytes),
  want: contentLength === undefined ? minimalStep : Math.min(contentLength, maxBytes),
})

/** How often a growing upload asks for room, and how long it waits in between: up to 0.3 s. */
const growthTurns = 4
const growthPauses = Schedule.jitteredWith(Schedule.spaced("300 millis"), { min: 0, max: 1 })

/** Grows with the upload, so that a file of any size takes few steps and a small project is not emptied by one. */
const stepFor = (received: number) => Math.min(maximalStep, Math.max(minimalStep, received >> 3))

/**
 * The way of the bytes: into the blob store, never past what is reserved for the file and its metadata. The reservation
 * grows in steps; the step that the project has no room for ends the upload. A reservation that was lost comes back only
 * after `renew` found the upload's row and rights alive, and else its refusal ends the upload.
 */
export const openSink = traced("BlobStore.open")(function* (upload: Upload, renew: ReturnType<typeof renewal>) {
  const { maxArtifactBytes } = yield* Settings
  const quota = yield* QuotaCounters
  const blobs = yield* BlobStore
  const runtime = yield* Effect.runtime<Effect.Effect.Context<typeof renew>>()
  const writer = yield* blobs.open(upload.blobKey, {})
  let received = 0
  let told: Readonly<Fields> | undefined
  const end = new AbortController()
  yield* held(Effect.void, () => Effect.sync(() => end.abort()))

  /** What the artifact will be charged when the file has so many bytes, as far as its metadata came already. */
  const chargeAt = (size: number) => size + (told?.metadataBytes ?? 0)

  /** Asks again a few times while only what others hold reserved is in the way: uploads that are refused give it back. */
  const grow = (need: number, want: number) =>
    Effect.retry(
      quota.extend(upload.project, upload.id, { need, want }).pipe(
        Effect.catchTag("ReservationLost", () =>
          Effect.zipRight(renew, quota.reserve(upload.project, upload.id, { need, want })),
        ),
        Effect.map((bytes) => {
          upload.reservedBytes = bytes
        }),
      ),
      {
        while: (refusal) => refusal._tag === "QuotaExceeded" && refusal.usedBytes + need <= refusal.limitBytes,
        schedule: Schedule.intersect(growthPauses, Schedule.recurs(growthTurns - 1)),
      },
    )
  const growing = async (need: number, want: number) => {
    const exit = await Runtime.runPromiseExit(runtime)(Effect.either(grow(need, want)), { signal: end.signal })
    if (Exit.isFailure(exit)) throw exit.cause
    if (exit.value._tag === "Left") throw exit.value.left
  }

  const store = (chunk: Uint8Array): Promise<void> | undefined => {
    const pending = writer.write(chunk)
    return pending?.catch((cause: unknown) => {
      throw cause instanceof DependencyUnavailable
        ? cause
        : new DependencyUnavailable({ dependency: "blob_store", operation: "write", cause })
    })
  }

  const open = async (fields: Readonly<Fields>): Promise<FileSink> => {
    told = fields
    if (fields.size !== undefined) {
      if (fields.size > maxArtifactBytes) throw new PayloadTooLarge({ limitBytes: maxArtifactBytes })
      const stated = chargeAt(fields.size)
      if (stated > upload.reservedBytes) await growing(stated, stated)
    }
    return {
      write: (chunk) => {
        received += chunk.length
        if (received > maxArtifactBytes) throw new PayloadTooLarge({ limitBytes: maxArtifactBytes })
        const need = chargeAt(received)
        if (need <= upload.reservedBytes) return store(chunk)
        const want = chargeAt(Math.min(received + stepFor(received), maxArtifactBytes))
        return growing(need, want).then(() => store(chunk))
      },
    }
  }

  /** Reserves what metadata that came after the file needs; resolves once the object is durable. */
  const finish = Effect.suspend(
    (): Effect.Effect<
      void,
      BadRequest | Effect.Effect.Error<ReturnType<typeof grow>>,
      Effect.Effect.Context<ReturnType<typeof grow>>
    > => {
      if (told === undefined) return new BadRequest({ message: 'The body has no part "file".' })
      const need = chargeAt(received)
      return need <= upload.reservedBytes ? writer.finish : Effect.zipRight(grow(need, need), writer.finish)
    },
  )
  return { open, finish }
})

/**
 * Asks every 10 s until the scope closes, and aborts `stop` with the refusal that `ask` fails with. A dependency that is
 * away ends nothing: it is asked again at the next turn. A timer, not a fiber: most uploads are over before it first
 * fires, and it costs them nothing. One question at a time; the scope's end stops it where it stands.
 */
export const keepAsking = Effect.fnUntraced(function* <E, R>(
  ask: Effect.Effect<void, E | DependencyUnavailable, R>,
  stop: AbortController,
) {
  const { abandonedAfterSeconds } = yield* Settings
  const runtime = yield* Effect.runtime<R>()
  let asking: Fiber.RuntimeFiber<void> | undefined
  const turn = Effect.catchAll(ask, (refusal) =>
    Effect.sync(() => {
      if (!(refusal instanceof DependencyUnavailable)) stop.abort(refusal)
    }),
  )
  const start = () => {
    if (asking !== undefined) return
    asking = Runtime.runFork(runtime)(turn)
    asking.addObserver(() => {
      asking = undefined
    })
  }
  yield* held(
    Effect.sync(() => setInterval(start, renewEvery(abandonedAfterSeconds))),
    (timer) =>
      Effect.suspend(() => {
        clearInterval(timer)
        return asking === undefined ? Effect.void : Fiber.interruptFork(asking)
      }),
  )
})

/**
 * Renews row and reservation of an open upload. Fails with `LeaseLost`, `LeaseInvalid` or `Unauthorized` once the claim or
 * the API key has ended, with `UploadFenced` when a sweep has fenced the upload, and with `UploadSuperseded` when a newer
 * request with the same key has. `confirm` asks again where the claim lives elsewhere.
 */
export const renewal = Effect.fnUntraced(function* (
  upload: Upload,
  right: UploadRight,
  confirm: Effect.Effect<unknown, LeaseInvalid | LeaseLost | DependencyUnavailable, LeaseVerifier>,
) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  const { id, project, reservedBytes } = upload
  // Row before reservation: a fenced upload must not bring its reservation back. Each of the three may be away without a
  // loss for the others; the next turn is soon enough.
  yield* Effect.catchTag(confirm, "DependencyUnavailable", () => Effect.void)
  yield* Effect.catchTag(metadata.renew(id, reservedBytes, right), "DependencyUnavailable", () => Effect.void)
  if (!upload.over) yield* Effect.ignore(quota.renew(project, id, reservedBytes))
})

/**
 * For an upload whose `begin` got no answer: its row may have been written, or may still be. It is fenced and forgotten
 * once Postgres answers, and again a little later, for a statement that was still on its way. The sweep finds what
 * comes later still.
 */
export const withdraw = traced("publish.withdraw")(function* (id: ArtifactId) {
  const metadata = yield* MetadataStore
  const remove = Effect.zipRight(metadata.fence(id), metadata.forget(id))
  yield* Effect.retry(remove, Schedule.spaced("500 millis").pipe(Schedule.upTo("1 minute")))
  yield* Effect.delay(remove, "2 seconds")
})

/**
 * Gives an upload up: its room first, then the row is fenced so that no commit can succeed, then the bytes go, then the
 * row. A commit that was sent and never answered may have won against the fence: its artifact keeps its bytes.
 */
const cleanUp = traced("publish.abandon")(function* (upload: Upload) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  const blobs = yield* BlobStore
  upload.over = true
  yield* Effect.ignore(quota.release(upload.project, upload.id))
  yield* metadata.fence(upload.id)
  const { _tag: outcome } = yield* metadata.outcome(upload.id)
  if (outcome === "Ready") return
  yield* blobs.remove(upload.blobKey)
  yield* metadata.forget(upload.id)
})

/**
 * Cleans up after an upload that ended so. Whatever fails is found and finished by the sweep, so nothing is awaited for
 * long, and hardly at all when the upload failed for a dependency that is away: the caller gets the 503 at once.
 */
export const abandon = (upload: Upload, end: Exit.Exit<unknown, unknown>) =>
  Effect.gen(function* () {
    const away = Exit.isFailure(end) && Cause.squash(end.cause) instanceof DependencyUnavailable
    const cleaning = yield* Effect.forkDaemon(Effect.ignore(cleanUp(upload)))
    // This runs where nothing is interruptible, and a timeout waits for what it cannot interrupt.
    yield* Effect.timeoutOption(Effect.interruptible(cleaning.await), away ? "100 millis" : "2 seconds")
  })
