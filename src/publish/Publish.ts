import { Clock, Effect, Fiber, Schedule } from "effect"
import { Settings } from "../Config.ts"
import { held } from "../Held.ts"
import { Lineage, PermissionDenied } from "../domain/Artifact.ts"
import { type Claim, LeaseLost, LeaseRequired } from "../domain/Claim.ts"
import { Authenticator, Unauthorized } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import { type LeaseProof, LeaseVerifier } from "../../services/LeaseVerifier.ts"
import {
  type CommitRequest,
  MetadataStore,
  type PendingUpload,
  type UploadSuperseded,
} from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import { concerning } from "../telemetry/Subject.ts"
import { compareReplay, receiveBody } from "./Body.ts"
import { BadRequest, IdempotencyInProgress, PayloadTooLarge, TakeOverFailed } from "./Refusals.ts"
import type { Published, PublishRequest } from "./Request.ts"
import {
  abandon,
  bodyOverheadBytes,
  firstRequest,
  keepAsking,
  openSink,
  renewal,
  type Upload,
  withdraw,
} from "./Upload.ts"
import { traced } from "../telemetry/Spans.ts"
import { inTurn, uploading } from "../turns/Turns.ts"

/**
 * Publishes one file: the rows 2 to 9 of the walk of an upload, in order. Fails with the refusal of the row that said
 * no; whatever the rows before it had taken is given back then.
 */
export const publish = traced("publish")(function* (request: PublishRequest) {
  yield* checkHead(request)
  return yield* inTurn(request.caller.project, uploading, admitted(request))
})

/** Rows 2 to 9, once it is the project's turn. */
const admitted = Effect.fnUntraced(function* (request: PublishRequest) {
  const admission = yield* verifyLease(request)
  if (admission._tag === "Replay") return yield* replay(request, admission.artifact)
  return yield* upload(request, admission).pipe(
    Effect.scoped,
    Effect.catchTag("UploadSuperseded", (refusal) => confirmSuperseded(request, admission.claim, refusal)),
  )
})

/** Rows 3 to 9, of a request that may publish. */
const upload = Effect.fnUntraced(function* (request: PublishRequest, admission: Admission) {
  const begun = yield* begin(request, admission)
  if (begun._tag === "Replay") return yield* replay(request, begun.artifact)
  const received = yield* transfer(request, admission, begun.upload)
  const proof = yield* confirmLease(request, admission.claim)
  const artifact = yield* commit(request, begun, admission.claim, received, proof)
  yield* Effect.logDebug("published")
  const published: Published = { status: 201, artifact }
  return published
})

/** What can be refused from the head alone, before anything is asked of anyone. */
const checkHead = Effect.fnUntraced(function* (request: PublishRequest) {
  const { maxArtifactBytes, allowLeaseFreeUploads } = yield* Settings
  const { caller, contentLength, idempotencyKey } = request
  if (request.leaseToken === undefined && !allowLeaseFreeUploads) return yield* new LeaseRequired()
  const permission = request.leaseToken === undefined ? "mobius.project.edit" : "mobius.work.execute"
  if (!caller.may(permission)) return yield* new PermissionDenied({ permission })
  if (idempotencyKey !== undefined && !/^[\x20-\x7e]{1,255}$/.test(idempotencyKey))
    return yield* new BadRequest({ message: "The Idempotency-Key must be 1 to 255 printable ASCII characters." })
  if (contentLength !== undefined && contentLength - bodyOverheadBytes > maxArtifactBytes)
    return yield* new PayloadTooLarge({ limitBytes: maxArtifactBytes })
})

interface Admission {
  readonly claim: Claim | undefined
  readonly proof: LeaseProof | undefined
}

const keyOf = (request: PublishRequest, claim: Claim | undefined): PendingUpload["idempotency"] =>
  request.idempotencyKey === undefined
    ? undefined
    : {
        key: request.idempotencyKey,
        principal: request.caller.principal,
        jobId: claim?.jobId,
        attempt: claim?.attempt,
      }

/** Row 2. A dead token still says whose earlier answer may be read again, and nothing else. */
const verifyLease = Effect.fnUntraced(function* (request: PublishRequest) {
  if (request.leaseToken === undefined) return { _tag: "Admitted", claim: undefined, proof: undefined } as const
  const { project, principal } = request.caller
  const lease = yield* (yield* LeaseVerifier).verify({ project, principal, token: request.leaseToken })
  if (lease._tag === "Live") return { _tag: "Admitted", claim: lease.claim, proof: lease.proof } as const
  const key = keyOf(request, lease.claim)
  const earlier = key && (yield* (yield* MetadataStore).findReplay(project, key))
  if (earlier?._tag === "Replay") return earlier
  if (earlier?._tag === "InProgress") return yield* new IdempotencyInProgress()
  return yield* new LeaseLost({ jobId: lease.claim.jobId, attempt: lease.claim.attempt, reason: lease.reason })
})

/** The body of a replay is read like any other, so its sender is watched too; its claim may have ended, its key not. */
const replay = Effect.fnUntraced(function* (request: PublishRequest, earlier: Published["artifact"]) {
  const authenticator = yield* Authenticator
  const stop = new AbortController()
  const keyLives = Effect.filterOrFail(
    authenticator.stillValid([request.caller.keyId]),
    (valid) => valid.has(request.caller.keyId),
    () => new Unauthorized(),
  )
  yield* keepAsking(Effect.asVoid(keyLives), stop)
  const published: Published = { status: 200, artifact: yield* compareReplay(request.receive, earlier, stop) }
  return published
}, Effect.scoped)

/**
 * Rows 3 and 4: at the same time, but for a request with a key, whose row may say that there is nothing to make room for,
 * or that it takes over an upload whose room it gets. Leaving the scope before the commit gives up the row, the room and
 * the bytes.
 */
const begin = Effect.fnUntraced(function* (request: PublishRequest, { claim, proof }: Admission) {
  const metadata = yield* MetadataStore
  const quota = yield* QuotaCounters
  const { maxArtifactBytes } = yield* Settings
  const id = yield* (yield* Ids).artifact
  const { project, principal } = request.caller
  const upload: Upload = { id, project, blobKey: `${project}/${id}`, reservedBytes: 0, over: false }
  yield* concerning({ project, artifactId: id })
  const state: { end: "open" | "committed" | "unknown" } = { end: "open" }
  const context = yield* Effect.context<Effect.Effect.Context<ReturnType<typeof abandon>>>()
  const room = firstRequest(request.contentLength, maxArtifactBytes)
  const idempotency = keyOf(request, claim)
  const reserving = idempotency === undefined ? yield* Effect.fork(quota.reserve(project, id, room)) : undefined
  const stopReserving = reserving === undefined ? Effect.void : Fiber.interrupt(reserving)
  const outcome = yield* held(
    Effect.tapError(
      metadata.begin({
        id,
        project,
        blobKey: upload.blobKey,
        createdBy: principal,
        reservedBytes: room.need,
        idempotency,
        lease: proof,
      }),
      (error) =>
        Effect.forkDaemon(
          stopReserving.pipe(
            Effect.zipRight(Effect.ignore(quota.release(project, id))),
            Effect.zipRight(error._tag === "DependencyUnavailable" ? Effect.ignore(withdraw(id)) : Effect.void),
          ),
        ),
    ),
    (begun, exit) =>
      begun._tag !== "Begun" || state.end !== "open"
        ? Effect.void
        : Effect.zipRight(stopReserving, Effect.provide(abandon(upload, exit), context)),
  )
  if (outcome._tag === "InProgress") return yield* new IdempotencyInProgress()
  if (outcome._tag === "Replay") return outcome
  upload.reservedBytes = yield* reserving === undefined
    ? quota.reserve(project, id, { ...room, superseded: outcome.superseded })
    : Fiber.join(reserving)
  return { _tag: "Begun", upload, state } as const
})

/** Rows 5 and 6: every byte through the hash into the store; the row and the room are kept alive meanwhile. */
const transfer = Effect.fnUntraced(function* (request: PublishRequest, { claim, proof }: Admission, upload: Upload) {
  const stop = new AbortController()
  const { keyId, project } = request.caller
  const right = { project, keyId, lineage: claim && lineageOf(claim), lease: proof }
  const renew = renewal(upload, right, confirmLease(request, claim))
  const sink = yield* openSink(upload, renew)
  yield* keepAsking(renew, stop)
  return yield* Effect.zipLeft(receiveBody(request.receive, sink.open, stop), sink.finish)
})

/** The lease is asked again, now that the bytes are durable. */
const confirmLease = Effect.fnUntraced(function* (request: PublishRequest, claim: Claim | undefined) {
  if (claim === undefined || request.leaseToken === undefined) return undefined
  const verifier = yield* LeaseVerifier
  return yield* verifier.confirm({ claim, principal: request.caller.principal, token: request.leaseToken })
})

/** How long a commit is asked after whose answer was lost; what is not known then, the sweep decides. */
const settleMillis = 1800

/** Rows 7 and 8, not to be interrupted: after the commit nothing is undone, and an unknown end is asked for first. */
const commit = (
  request: PublishRequest,
  begun: { readonly upload: Upload; readonly state: { end: "open" | "committed" | "unknown" } },
  claim: Claim | undefined,
  received: Effect.Effect.Success<ReturnType<typeof transfer>>,
  lease: LeaseProof | undefined,
) =>
  Effect.gen(function* () {
    const { upload, state } = begun
    const metadata = yield* MetadataStore
    const quota = yield* QuotaCounters
    const wakeup = yield* Wakeup
    const decision: CommitRequest = {
      id: upload.id,
      project: upload.project,
      name: received.name,
      mime: received.mime,
      metadata: received.metadata,
      size: received.digest.size,
      sha256: received.digest.sha256,
      visibility: claim?.visibility ?? "private",
      owner: claim?.owner ?? request.caller.principal,
      lineage: claim && lineageOf(claim),
      keyId: request.caller.keyId,
      eventId: yield* (yield* Ids).event,
      lease,
    }
    const asked = yield* Clock.currentTimeMillis
    const look = Effect.gen(function* () {
      const found = yield* metadata.outcome(upload.id)
      return found._tag === "Ready" ? found : yield* metadata.commit(decision)
    })
    const settle = (unknown: DependencyUnavailable) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.retry(look, {
          schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo(asked + settleMillis - now)),
          while: (error) => error._tag === "DependencyUnavailable",
        }),
      ).pipe(Effect.catchTag("DependencyUnavailable", () => Effect.fail(unknown)))
    // Whatever comes back but a refusal, a defect too, leaves open what the database did: nothing is undone then.
    state.end = "unknown"
    const committed = yield* metadata.commit(decision).pipe(
      Effect.catchTag("DependencyUnavailable", settle),
      Effect.tapError((error) =>
        Effect.sync(() => {
          if (error._tag !== "DependencyUnavailable") state.end = "open"
        }),
      ),
    )
    state.end = "committed"
    upload.over = true
    yield* wakeup.ring
    // Not waited for. It begins in the turn of the answer: a request that follows on this node finds it settled.
    yield* Effect.forkDaemon(Effect.ignoreLogged(quota.commit(upload.project, upload.id, committed.usage)))
    return committed.artifact
  }).pipe(Effect.uninterruptible)

/** How often and how long a superseded sender's request waits for the end of the one that took over. */
const successorPause = "250 millis"
const successorPatience = "3 seconds"

/**
 * A superseded sender's answer is final, so it must be true. The request that took over may be an older one, whose
 * client has left: it ends without an artifact, and nobody would send the file again. So the key is asked who holds it.
 * Fails with the refusal when a newer request made the artifact, or is still on its way after three seconds; with
 * `TakeOverFailed` when the key is free again.
 */
const confirmSuperseded = Effect.fnUntraced(function* (
  request: PublishRequest,
  claim: Claim | undefined,
  refusal: UploadSuperseded,
) {
  const key = keyOf(request, claim)
  if (key === undefined) return yield* refusal
  const metadata = yield* MetadataStore
  const ended = Effect.filterOrFail(
    metadata.findReplay(request.caller.project, key),
    (holder) => holder?._tag !== "InProgress",
    () => refusal,
  )
  const holder = yield* Effect.retry(ended, {
    while: (error) => error._tag === "UploadSuperseded",
    schedule: Schedule.upTo(Schedule.spaced(successorPause), successorPatience),
  })
  return yield* holder === undefined ? new TakeOverFailed() : refusal
})

const lineageOf = (claim: Claim): Lineage =>
  new Lineage(
    {
      jobId: claim.jobId,
      workerSessionId: claim.workerSessionId,
      attempt: claim.attempt,
      ...(claim.runId !== undefined && { runId: claim.runId }),
      ...(claim.stepId !== undefined && { stepId: claim.stepId }),
    },
    // A claim was validated when it was made.
    { disableValidation: true },
  )
