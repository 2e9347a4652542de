import { Context, type DateTime, type Effect, type Redacted, Schema } from "effect"
import type { CredentialId, ProjectHandle } from "../src/domain/Ids.ts"
import type { Permission, Principal, ProjectCaller } from "../src/domain/Principal.ts"
import type { ProjectNotFound } from "../src/domain/Project.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** No key, a wrong key, an expired or revoked one: the caller learns no more than that. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", {}) {}

/** An API key as an administrator sees it: everything but the secret. */
export interface ApiKeyRecord {
  readonly id: CredentialId
  readonly project: ProjectHandle
  readonly principal: Principal
  readonly permissions: ReadonlyArray<Permission>
  readonly createdAt: DateTime.Utc
  readonly expiresAt?: DateTime.Utc
}

/** A key that has no record under this id in this project. */
export class ApiKeyNotFound extends Schema.TaggedError<ApiKeyNotFound>()("ApiKeyNotFound", { id: Schema.String }) {}

/**
 * API keys: who calls and what they may. Keys are stored as SHA-256 only and compared in constant time. A revocation
 * or an expiry reaches every pod within 5 s; commits check the key's row itself. A key works at once on the pod that issued
 * it, and within about a second on others, also when it was asked for before it existed.
 */
export class Authenticator extends Context.Tag("services/Authenticator")<
  Authenticator,
  {
    /** `key` is `mbx_…`, optionally followed by `.{project}`, which must then be the key's own project. */
    readonly authenticate: (
      key: Redacted.Redacted,
    ) => Effect.Effect<ProjectCaller, Unauthorized | DependencyUnavailable>
    /** The secret is in this answer and nowhere else. Not idempotent: each call issues another key. */
    readonly issue: (options: {
      readonly project: ProjectHandle
      readonly principal: Principal
      readonly permissions: ReadonlyArray<Permission>
      readonly expiresAt?: DateTime.Utc | undefined
      /** A secret made elsewhere to be stored under its hash; absent: a new one is made. */
      readonly key?: Redacted.Redacted | undefined
    }) => Effect.Effect<
      { readonly record: ApiKeyRecord; readonly key: Redacted.Redacted },
      ProjectNotFound | DependencyUnavailable
    >
    /** Live and expired keys, newest first; revoked ones are gone. */
    readonly list: (
      project: ProjectHandle,
    ) => Effect.Effect<ReadonlyArray<ApiKeyRecord>, ProjectNotFound | DependencyUnavailable>
    readonly revoke: (
      project: ProjectHandle,
      id: CredentialId,
    ) => Effect.Effect<void, ApiKeyNotFound | DependencyUnavailable>
    /** Those of these keys that are still good now, without any cache, in one look: for all open streams of a node. */
    readonly stillValid: (
      ids: ReadonlyArray<CredentialId>,
    ) => Effect.Effect<ReadonlySet<CredentialId>, DependencyUnavailable>
  }
>() {}
