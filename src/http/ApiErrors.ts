import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Data, Schema } from "effect"

/** Every code a caller can meet; each has one meaning and one status. */
export const errorCodes = [
  "bad_request",
  "unknown_field",
  "lineage_not_allowed",
  "size_mismatch",
  "digest_mismatch",
  "unauthorized",
  "permission_denied",
  "lease_required",
  "lease_invalid",
  "not_found",
  "method_not_allowed",
  "lease_lost",
  "idempotency_key_conflict",
  "idempotency_in_progress",
  "idempotency_superseded",
  "claim_superseded",
  "events_expired",
  "content_lost",
  "precondition_failed",
  "payload_too_large",
  "quota_exceeded",
  "range_not_satisfiable",
  "expectation_failed",
  "rate_limit_exceeded",
  "internal",
  "service_unavailable",
] as const
export type ErrorCode = (typeof errorCodes)[number]

/** The only shape an error ever has on the wire. */
export interface Envelope {
  readonly error: {
    readonly code: string
    readonly message: string
    readonly details?: { readonly [key: string]: unknown } | undefined
  }
}

/** An answer that is an error. `headers` come on top of the envelope's own. */
export class ApiError extends Data.TaggedError("ApiError")<{
  readonly status: number
  readonly error: Envelope["error"]
  readonly headers: Readonly<Record<string, string>>
}> {}

export const apiError = (
  status: number,
  code: ErrorCode,
  message: string,
  extra: {
    readonly details?: Readonly<Record<string, unknown>>
    readonly headers?: Readonly<Record<string, string>>
  } = {},
): ApiError =>
  new ApiError({
    status,
    error: extra.details === undefined ? { code, message } : { code, message, details: extra.details },
    headers: extra.headers ?? {},
  })

export const badRequest = (message: string) => apiError(400, "bad_request", message)
export const notFound = (message = "There is no such thing here.") => apiError(404, "not_found", message)
export const permissionDenied = (permission: string) =>
  apiError(403, "permission_denied", `This needs the permission ${permission}.`, { details: { permission } })
export const unauthorized = apiError(401, "unauthorized", "A valid API key is required.", {
  headers: { "www-authenticate": "Bearer" },
})
export const unavailable = (message: string, retryAfterSeconds = 2) =>
  apiError(503, "service_unavailable", message, { headers: { "retry-after": String(retryAfterSeconds) } })
export const internal = apiError(500, "internal", "The node failed to answer; the fault was logged.")

const envelope = (status: number, codes: string) =>
  Schema.Struct({
    error: Schema.Struct({
      code: Schema.String.annotations({ description: codes }),
      message: Schema.String,
      details: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
    }),
  }).annotations(HttpApiSchema.annotations({ status, description: codes, identifier: `Error${status}` }))

/** The envelopes by status, for the contract of the API. */
export const Error400 = envelope(
  400,
  "bad_request, unknown_field, lineage_not_allowed, size_mismatch or digest_mismatch",
)
export const Error401 = envelope(401, "unauthorized")
export const Error403 = envelope(403, "permission_denied (details.permission), lease_required or lease_invalid")
export const Error404 = envelope(404, "not_found")
export const Error409 = envelope(
  409,
  "lease_lost, idempotency_key_conflict, idempotency_in_progress (Retry-After), idempotency_superseded or claim_superseded",
)
export const Error410 = envelope(410, "events_expired, or content_lost: the bytes are gone for good")
export const Error412 = envelope(412, "precondition_failed")
export const Error413 = envelope(413, "payload_too_large or quota_exceeded (details: limit, used, reserved, requested)")
export const Error416 = envelope(416, "range_not_satisfiable")
export const Error429 = envelope(
  429,
  "rate_limit_exceeded, where a limit is configured; Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset",
)
export const Error503 = envelope(503, "service_unavailable; Retry-After says when to come back")
