import { Cause, Effect, Exit, Fiber, Runtime, Schedule } from "effect"
import { setTimeout as sleep } from "node:timers/promises"
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
}

/** The first reservation: what the body's length says is needed at least, and wanted at most; a step when it is unknown. */
export const firstRequest = (contentLength: number | undefined, maxBytes: number) => ({
  need: contentLength === undefined ? 0 : Math.max(0, contentLength - bodyOverheadBytes),
  want: contentLength === undefined ? minimalStep : Math.min(contentLength, maxBytes),
})

/** How often a growing upload asks for room, and how long it waits in between at the most. */
const growthTurns = 4
const growthPauseMillis = 300

/** Grows with the upload, so that a file of any size takes few steps and a small project is not emptied by one. */
const stepFor = (received: number) => Math.min(maximalStep, Math.max(minimalStep, received >> 3))

/**
 * The way of the bytes: into the blob store, never past what is reserved. The reservation grows in steps; the step that
 * the project has no room for ends the upload.
 */
export const openSink = traced("BlobStore.open")(function* (upload: Upload) {
  const { maxArtifactBytes } = yield* Settings
  const quota = yield* QuotaCounters
  const blobs = yield* BlobStore
  const runtime = yield* Effect.runtime()
  const writer = yield* blobs.open(upload.blobKey, {})
  let received = 0
  let opened = false
  let ended = false
  yield* held(Effect.void, () =>
    Effect.sync(() => {
      ended = true
    }),
  )

  /** Asks again a few times while only what others hold reserved is in the way: uploads that are refused give it back. */
  const grow = async (need: number, want: number) => {
    for (let turn = 1; ; turn++) {
      const extend = quota.extend(upload.project, upload.id, { need, want })
      const exit = await Runtime.runPromiseExit(runtime)(Effect.either(extend))
      if (Exit.isFailure(exit)) throw exit.cause
      const { value: answer } = exit
      if (answer._tag === "Right") {
        upload.reservedBytes = answer.right
        return
      }
      const refusal = answer.left
      const fitsAlone = refusal._tag === "QuotaExceeded" && refusal.usedBytes + need <= refusal.limitBytes
      if (!fitsAlone || turn === growthTurns) throw refusal
      await sleep(Math.random() * growthPauseMillis)
      if (ended) throw refusal
    }
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
    if (fields.size !== undefined) {
      if (fields.size > maxArtifactBytes) throw new PayloadTooLarge({ limitBytes: maxArtifactBytes })
      if (fields.size > upload.reservedBytes) await grow(fields.size, fields.size)
    }
    opened = true
    return {
      write: (chunk) => {
        received += chunk.length
        if (received > maxArtifactBytes) throw new PayloadTooLarge({ limitBytes: maxArtifactBytes })
        if (received <= upload.reservedBytes) return store(chunk)
        const want = Math.min(received + stepFor(received), maxArtifactBytes)
        return grow(received, want).then(() => store(chunk))
      },
    }
  }

  /** Resolves once the object is durable. */
  const finish = Effect.suspend((): Effect.Effect<void, DependencyUnavailable | BadRequest> =>
    opened ? writer.finish : new BadRequest({ message: 'The body has no part "file".' }),
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
 * Renews row and reservation of an open upload until the scope closes. `stop` is aborted with `LeaseLost`, `LeaseInvalid`
 * or `Unauthorized` once the claim or the API key has ended, with `UploadFenced` when a sweep has fenced the upload, and
 * with `UploadSuperseded` when a newer request with the same key has. `confirm` asks again where the claim lives elsewhere.
 */
export const keepAlive = Effect.fnUntraced(function* (
  upload: Upload,
  right: UploadRight,
  confirm: Effect.Effect<unknown, LeaseInvalid | LeaseLost | DependencyUnavailable, LeaseVerifier>,
  stop: AbortController,
) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  // Row before reservation: a fenced upload must not bring its reservation back. Each of the three may be away without a
  // loss for the others; the next turn is soon enough.
  const renew = Effect.suspend(() => {
    const { id, project, reservedBytes } = upload
    return confirm.pipe(
      Effect.catchTag("DependencyUnavailable", () => Effect.void),
      Effect.zipRight(metadata.renew(id, reservedBytes, right)),
      Effect.catchTag("DependencyUnavailable", () => Effect.void),
      Effect.zipRight(Effect.ignore(quota.renew(project, id, reservedBytes))),
    )
  })
  yield* keepAsking(renew, stop)
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
