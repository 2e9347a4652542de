import { Schema } from "effect"

const ulidAfter = (prefix: string) => new RegExp(`^${prefix}_[A-Za-z0-9]+$`)

/** `art_` + ULID. Not a secret: knowing an id grants nothing. */
export const ArtifactId = Schema.String.pipe(Schema.pattern(ulidAfter("art")), Schema.brand("ArtifactId"))
export type ArtifactId = typeof ArtifactId.Type

/** `cred_` + ULID: names an API key without being one. */
export const CredentialId = Schema.String.pipe(Schema.pattern(ulidAfter("cred")), Schema.brand("CredentialId"))
export type CredentialId = typeof CredentialId.Type

/** `sevt_` + ULID: names one source event for ever. */
export const EventId = Schema.String.pipe(Schema.pattern(ulidAfter("sevt")), Schema.brand("EventId"))
export type EventId = typeof EventId.Type

/** A project handle: the tenant's name in every path. */
export const ProjectHandle = Schema.String.pipe(
  Schema.pattern(/^[a-z0-9]+(-[a-z0-9]+)*$/),
  Schema.maxLength(100),
  Schema.brand("ProjectHandle"),
)
export type ProjectHandle = typeof ProjectHandle.Type

/**
 * Run, step, job, session and principal ids come from outside: opaque, 1–200 characters, no control characters
 * (they travel in headers, logs and JSON) and no half characters (which UTF-8 cannot hold).
 */
export const ExternalId = Schema.String.pipe(
  Schema.minLength(1),
  Schema.maxLength(200),
  Schema.filter((id) => !/[\p{Cc}\p{Cs}]/u.test(id), {
    message: () => "must not contain control characters or lone surrogates",
  }),
)
export type ExternalId = typeof ExternalId.Type

/** SHA-256 as 64 lower-case hex digits. */
export const Sha256 = Schema.String.pipe(Schema.pattern(/^[0-9a-f]{64}$/), Schema.brand("Sha256"))
export type Sha256 = typeof Sha256.Type

/** A count of bytes: an integer of at least 0, exact in a double. */
export const Bytes = Schema.Int.pipe(Schema.nonNegative())
