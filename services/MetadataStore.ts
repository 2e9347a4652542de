import { Context, type Effect, Schema } from "effect"
import type { Artifact, ArtifactNotFound, Lineage, Metadata, PermissionDenied } from "../src/domain/Artifact.ts"
import type { Visibility } from "../src/domain/Claim.ts"
import type { LeaseLost } from "../src/domain/Claim.ts"
import type { ArtifactId, CredentialId, EventId, ProjectHandle, Sha256 } from "../src/domain/Ids.ts"
import type { Principal, ProjectCaller } from "../src/domain/Principal.ts"
import type { ProjectNotFound } from "../src/domain/Project.ts"
import type { QuotaExceeded, Usage } from "../src/domain/Quota.ts"
import type { Unauthorized } from "./Authenticator.ts"
import type { LeaseProof } from "./LeaseVerifier.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** The upload's own row is gone or fenced: a sweep took this upload for dead. Nothing was made ready. */
export class UploadFenced extends Schema.TaggedError<UploadFenced>()("UploadFenced", { id: Schema.String }) {}

/**
 * A newer request with the same idempotency key took this upload over. Nothing was made ready, and this upload never
 * will be.
 */
export class UploadSuperseded extends Schema.TaggedError<UploadSuperseded>()("UploadSuperseded", {
  id: Schema.String,
}) {}

/** A cursor this store did not make. */
export class BadCursor extends Schema.TaggedError<BadCursor>()("BadCursor", {}) {}

export interface PendingUpload {
  readonly id: ArtifactId
  readonly project: ProjectHandle
  readonly blobKey: string
  readonly createdBy: Principal
  readonly reservedBytes: number
  /**
   * The scope's parts and the caller's key. Unique among the project's pending, ready and deleted artifacts.
   */
  readonly idempotency?:
    | {
        readonly key: string
        readonly principal: Principal
        readonly jobId?: string | undefined
        readonly attempt?: number | undefined
      }
    | undefined
  /** The live lease by which a pending upload may be taken over; missing for lease-free uploads. */
  readonly lease?: LeaseProof | undefined
}

export type Begun =
  /** `superseded`: the pending upload that had the key. It is fenced, and its reservation is to be given up. */
  | { readonly _tag: "Begun"; readonly superseded: ArtifactId | undefined }
  /** The key's upload is done: this is what it made, tombstones included. */
  | { readonly _tag: "Replay"; readonly artifact: Artifact }
  /** The key's upload is still on its way, and the lease is not live. */
  | { readonly _tag: "InProgress" }

export interface CommitRequest {
  readonly id: ArtifactId
  readonly project: ProjectHandle
  readonly name: string
  readonly mime: string
  readonly size: number
  readonly sha256: Sha256
  readonly metadata: Metadata
  readonly visibility: Visibility
  readonly owner: Principal
  readonly lineage: Lineage | undefined
  readonly keyId: CredentialId
  readonly eventId: EventId
  /** Absent only for lease-free uploads. */
  readonly lease: LeaseProof | undefined
}

/** By which right an upload goes on: its API key, and its claim unless it is lease-free. */
export type UploadRight = Pick<CommitRequest, "project" | "keyId" | "lineage" | "lease">

export interface ListFilter {
  readonly runId?: string | undefined
  readonly stepId?: string | undefined
  readonly jobId?: string | undefined
  /** Prefixes. */
  readonly mime?: string | undefined
  readonly namePrefix?: string | undefined
  readonly state: "ready" | "deleted"
  readonly cursor?: string | undefined
  /** 1–100. */
  readonly limit: number
}

/** A page ends before its artifacts would take more than so many bytes of JSON; one artifact always fits. */
export const mostPageBytes = 1024 * 1024

export interface Page {
  readonly items: ReadonlyArray<Artifact>
  /** Present when there may be more; a page may be short, even empty, and still have one. */
  readonly nextCursor: string | undefined
}

export interface Deleted {
  readonly artifact: Artifact
  /** The object still to be removed; `undefined` once its removal was confirmed. */
  readonly blobKey: string | undefined
  /** The books after this call freed the bytes; `undefined` when an earlier call had freed them. */
  readonly usage: Usage | undefined
}

/**
 * Artifacts from pending to tombstone. Each method is one transaction or one statement. What a caller may see is
 * decided here, by one predicate, for lists, reads and deletes alike:
 * metadata — shared ones with `mobius.project.view`, own and self-created ones always, all with `mobius.project.edit`;
 * content — the same without the last.
 */
export class MetadataStore extends Context.Tag("services/MetadataStore")<
  MetadataStore,
  {
    /**
     * Writes the pending row, which holds the idempotency key and the reserved bytes. Invisible to every reader. A
     * pending row that holds the key is fenced in the same transaction, if the lease is live by the database's clock:
     * the newest request has the key. Of any number of callers at once, exactly one upload stays unfenced.
     */
    readonly begin: (upload: PendingUpload) => Effect.Effect<Begun, ProjectNotFound | DependencyUnavailable>
    /** What the key made already, or whether it is on its way; for callers whose lease has ended. */
    readonly findReplay: (
      project: ProjectHandle,
      idempotency: NonNullable<PendingUpload["idempotency"]>,
    ) => Effect.Effect<Exclude<Begun, { _tag: "Begun" }> | undefined, DependencyUnavailable>
    /**
     * Says that the upload lives and how many bytes it holds reserved. To be called every 10 s. One statement, which
     * renews only while claim and key are live by the database's clock; an introspected claim was asked for by the
     * caller just before.
     */
    readonly renew: (
      id: ArtifactId,
      reservedBytes: number,
      right: UploadRight,
    ) => Effect.Effect<void, UploadSuperseded | UploadFenced | LeaseLost | Unauthorized | DependencyUnavailable>
    /**
     * The point of truth, one transaction: own row unfenced, claim live by the database's clock and held to the end
     * of the transaction, key still valid, charge (file and metadata) within the limit in force; then row ready, books
     * raised by the charge, event written.
     * Any refusal leaves everything as it was. Repeated after its success it answers the same. After `DependencyUnavailable` the outcome is unknown: ask `outcome`.
     */
    readonly commit: (
      request: CommitRequest,
    ) => Effect.Effect<
      { readonly artifact: Artifact; readonly usage: Usage },
      UploadSuperseded | UploadFenced | LeaseLost | Unauthorized | QuotaExceeded | DependencyUnavailable
    >
    /** What became of a commit whose answer was lost. */
    readonly outcome: (
      id: ArtifactId,
    ) => Effect.Effect<
      | { readonly _tag: "Ready"; readonly artifact: Artifact; readonly usage: Usage }
      | { readonly _tag: "Pending" }
      | { readonly _tag: "Gone" },
      DependencyUnavailable
    >
    /** First half of giving up: no commit can succeed any more, and the idempotency key is free. Idempotent. */
    readonly fence: (id: ArtifactId) => Effect.Effect<void, DependencyUnavailable>
    /** Second half, once the bytes are gone: forgets a fenced upload. Idempotent. */
    readonly forget: (id: ArtifactId) => Effect.Effect<void, DependencyUnavailable>
    /** Those of the keys that no pending, fenced or ready artifact and no queued removal knows. */
    readonly unknownBlobKeys: (
      keys: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<string>, DependencyUnavailable>
    /** Those of the keys whose upload is on its way: pending and not fenced. */
    readonly uploadingBlobKeys: (
      keys: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<string>, DependencyUnavailable>
    /** With `includeDeleted`, tombstones too. */
    readonly find: (
      caller: ProjectCaller,
      id: string,
      options: { readonly includeDeleted: boolean },
    ) => Effect.Effect<Artifact, ArtifactNotFound | DependencyUnavailable>
    /** The artifact and where its bytes lie, if the caller may read them. */
    readonly findContent: (
      caller: ProjectCaller,
      id: string,
    ) => Effect.Effect<
      { readonly artifact: Artifact; readonly blobKey: string },
      ArtifactNotFound | DependencyUnavailable
    >
    /** For URLs the node signed itself: the signature is the right to read. */
    readonly findSigned: (
      id: string,
    ) => Effect.Effect<
      { readonly artifact: Artifact; readonly blobKey: string },
      ArtifactNotFound | DependencyUnavailable
    >
    /**
     * Newest first by (createdAt, id); deleted ones by the same order. A page ends at `limit` artifacts or at
     * `mostPageBytes`, whichever comes first, and no more than that is loaded.
     */
    readonly list: (caller: ProjectCaller, filter: ListFilter) => Effect.Effect<Page, BadCursor | DependencyUnavailable>
    /**
     * One transaction: row to tombstone, which keeps no metadata, books lowered by what the artifact was charged, removal
     * queued, event written. Repeats find the tombstone and change nothing. `PermissionDenied` when the caller sees it and may not delete it.
     */
    readonly remove: (
      caller: ProjectCaller,
      id: string,
      eventId: EventId,
    ) => Effect.Effect<Deleted, ArtifactNotFound | PermissionDenied | DependencyUnavailable>
    /** Answers when the database does. */
    readonly ping: Effect.Effect<void, DependencyUnavailable>
  }
>() {}
