import { Effect, Metric } from "effect"
import type { ApiKeyNotFound, Unauthorized } from "../../services/Authenticator.ts"
import type { BadCursor, UploadFenced, UploadSuperseded } from "../../services/MetadataStore.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import type { ArtifactNotFound, ContentLost, PermissionDenied } from "../domain/Artifact.ts"
import type { ClaimSuperseded, LeaseInvalid, LeaseLost, LeaseRequired } from "../domain/Claim.ts"
import type { ProjectNotFound } from "../domain/Project.ts"
import type { QuotaExceeded } from "../domain/Quota.ts"
import type * as Publish from "../publish/Refusals.ts"
import { contentLost } from "../telemetry/Store.ts"
import {
  type ApiError,
  apiError,
  badRequest,
  notFound,
  permissionDenied,
  unauthorized,
  unavailable,
} from "./ApiErrors.ts"

/** Everything the product refuses with, and the faults of what it depends on. */
export type Refusal =
  | ApiError
  | ApiKeyNotFound
  | ArtifactNotFound
  | BadCursor
  | ClaimSuperseded
  | ContentLost
  | DependencyUnavailable
  | LeaseInvalid
  | LeaseLost
  | LeaseRequired
  | PermissionDenied
  | ProjectNotFound
  | QuotaExceeded
  | Unauthorized
  | UploadFenced
  | UploadSuperseded
  | Publish.BadRequest
  | Publish.ClientGone
  | Publish.DigestMismatch
  | Publish.IdempotencyInProgress
  | Publish.IdempotencyKeyConflict
  | Publish.LineageNotAllowed
  | Publish.PayloadTooLarge
  | Publish.SizeMismatch
  | Publish.TakeOverFailed
  | Publish.UnknownField
  | Publish.UploadStalled
  | Publish.UploadTooSlow

const dependencies = {
  postgres: "The database",
  redis: "Redis",
  blob_store: "The blob store",
  lease_introspection: "The control plane",
} as const

const leaseEnds = {
  expired: "The lease has expired, for no heartbeat came in time: stop this attempt of the job.",
  superseded: "A later attempt or a newer token has taken the claim over: stop the work that uses this token.",
  released: "The claim was released: stop this attempt of the job.",
  unknown: "The claim is not held any more: stop this attempt of the job.",
} as const

/** The one place where a refusal gets its status, code and words. Never a cause, a path or a secret. */
export const toApiError = (refusal: Refusal): ApiError => {
  switch (refusal._tag) {
    case "ApiError":
      return refusal
    case "BadRequest":
      return badRequest(refusal.message)
    case "BadCursor":
      return badRequest("The cursor is not one of this list.")
    case "ClientGone":
      return badRequest("The connection closed before the body was whole.")
    case "UploadStalled":
      return badRequest(`No bytes came for ${refusal.idleSeconds} seconds.`)
    case "UploadTooSlow":
      return badRequest(
        `Fewer than ${refusal.bytesPerSecond} bytes a second came over ${refusal.seconds} seconds; send faster.`,
      )
    case "UnknownField":
      return apiError(400, "unknown_field", `There is no part named ${JSON.stringify(refusal.field)}.`, {
        details: { field: refusal.field },
      })
    case "LineageNotAllowed":
      return apiError(400, "lineage_not_allowed", `${refusal.field} comes from the claim and cannot be given.`, {
        details: { field: refusal.field },
      })
    case "SizeMismatch":
      return apiError(400, "size_mismatch", "The file has another size than was stated.", {
        details: { expected: refusal.expected, actual: refusal.actual },
      })
    case "DigestMismatch":
      return apiError(400, "digest_mismatch", "The file has another SHA-256 than was stated.", {
        details: { expected: refusal.expected, actual: refusal.actual },
      })
    case "Unauthorized":
      return unauthorized
    case "PermissionDenied":
      return permissionDenied(refusal.permission)
    case "LeaseRequired":
      return apiError(403, "lease_required", "Publishing needs the header X-Mobius-Lease-Token.")
    case "LeaseInvalid":
      return apiError(403, "lease_invalid", "The lease token is not one that this caller may use here.")
    case "LeaseLost":
      return apiError(409, "lease_lost", leaseEnds[refusal.reason ?? "unknown"], {
        details: {
          ...(refusal.reason === undefined ? {} : { reason: refusal.reason }),
          ...(refusal.jobId === undefined ? {} : { job_id: refusal.jobId }),
          ...(refusal.attempt === undefined ? {} : { attempt: refusal.attempt }),
        },
      })
    case "ArtifactNotFound":
      return notFound("There is no such artifact.")
    case "ProjectNotFound":
      return notFound("There is no such project.")
    case "ApiKeyNotFound":
      return notFound("There is no such API key.")
    case "IdempotencyKeyConflict":
      return apiError(409, "idempotency_key_conflict", "The key was used for another name or other bytes.")
    case "IdempotencyInProgress":
      return apiError(
        409,
        "idempotency_in_progress",
        "The upload under this key is still on its way and this lease has ended, so that it can only replay: ask again.",
        { headers: { "retry-after": "1" } },
      )
    case "UploadSuperseded":
      return apiError(
        409,
        "idempotency_superseded",
        "A newer request with the same Idempotency-Key has taken this upload over: use the answer to that request.",
      )
    case "ClaimSuperseded":
      return apiError(409, "claim_superseded", "Another attempt holds the job, or this one has ended or differs.", {
        details: { job_id: refusal.jobId, attempt: refusal.attempt, highest_attempt: refusal.highestAttempt },
      })
    case "PayloadTooLarge":
      return apiError(413, "payload_too_large", `No artifact may be larger than ${refusal.limitBytes} bytes.`, {
        details: { limit: refusal.limitBytes },
      })
    case "QuotaExceeded":
      return apiError(413, "quota_exceeded", "The project has no room for this file.", {
        details: {
          limit: refusal.limitBytes,
          used: refusal.usedBytes,
          reserved: refusal.reservedBytes,
          requested: refusal.requestedBytes,
        },
      })
    case "UploadFenced":
      return unavailable("The upload was taken for dead and given up; try again.")
    case "TakeOverFailed":
      return unavailable("The request that took this upload over ended without an artifact; send the file again.", 1)
    case "ContentLost":
      return apiError(410, "content_lost", "The bytes of this artifact are lost: delete it, or publish it again.")
    case "DependencyUnavailable":
      return unavailable(`${dependencies[refusal.dependency]} does not answer at the moment.`)
  }
}

const logFault = (refusal: Refusal): Effect.Effect<void> => {
  if (refusal._tag === "DependencyUnavailable")
    return Effect.logError(`${refusal.dependency} unavailable: ${refusal.operation}`, refusal.cause)
  if (refusal._tag === "ContentLost")
    return Effect.zipRight(
      Metric.increment(contentLost),
      Effect.logError(`the bytes of ${refusal.id} are gone from the blob store: object ${refusal.blobKey}`),
    )
  return Effect.void
}

/** Translates what a handler failed with; faults of the node itself leave a line in its log. */
export const translated = <A, E extends Refusal, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, ApiError, R> =>
  Effect.catchAll(effect, (refusal: Refusal) => Effect.zipRight(logFault(refusal), Effect.fail(toApiError(refusal))))
