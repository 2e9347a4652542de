import { Schema } from "effect"

/** The request is not one: a malformed body, a missing or ill-formed part or header. `message` is for the caller. */
export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", { message: Schema.String }) {}

/** The body has a part that publishing does not know. */
export class UnknownField extends Schema.TaggedError<UnknownField>()("UnknownField", { field: Schema.String }) {}

/** The caller tried to say where the artifact comes from or whose it is; only the claim says that. */
export class LineageNotAllowed extends Schema.TaggedError<LineageNotAllowed>()("LineageNotAllowed", {
  field: Schema.String,
}) {}

/** The stated size differs from the bytes that came. */
export class SizeMismatch extends Schema.TaggedError<SizeMismatch>()("SizeMismatch", {
  expected: Schema.Number,
  actual: Schema.Number,
}) {}

/** The stated SHA-256 differs from that of the bytes that came. */
export class DigestMismatch extends Schema.TaggedError<DigestMismatch>()("DigestMismatch", {
  expected: Schema.String,
  actual: Schema.String,
}) {}

/** The file is larger than any artifact may be, in bytes. */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>()("PayloadTooLarge", {
  limitBytes: Schema.Number,
}) {}

/** The key was used for another name or other bytes. */
export class IdempotencyKeyConflict extends Schema.TaggedError<IdempotencyKeyConflict>()(
  "IdempotencyKeyConflict",
  {},
) {}

/** The upload under the key is still on its way, and the lease that asks is dead. */
export class IdempotencyInProgress extends Schema.TaggedError<IdempotencyInProgress>()("IdempotencyInProgress", {}) {}

/** The request that took this upload over ended without an artifact, and the key is free again. */
export class TakeOverFailed extends Schema.TaggedError<TakeOverFailed>()("TakeOverFailed", {}) {}

/** No progress from the client for too long. */
export class UploadStalled extends Schema.TaggedError<UploadStalled>()("UploadStalled", {
  idleSeconds: Schema.Number,
}) {}

/** Some progress, and too little: the client sent less than `bytesPerSecond` over the last `seconds` that it was waited for. */
export class UploadTooSlow extends Schema.TaggedError<UploadTooSlow>()("UploadTooSlow", {
  bytesPerSecond: Schema.Number,
  seconds: Schema.Number,
}) {}

/** The client went away before the body was whole; nobody is left to answer. */
export class ClientGone extends Schema.TaggedError<ClientGone>()("ClientGone", {}) {}
