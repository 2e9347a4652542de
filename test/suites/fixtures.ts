import { Effect, type Layer, Redacted } from "effect"
import { Lineage } from "../../src/domain/Artifact.ts"
import { Claim } from "../../src/domain/Claim.ts"
import { type ArtifactId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { type Permission, Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import type { Audit } from "../../services/Audit.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import {
  type CommitRequest,
  MetadataStore,
  type PendingUpload,
  type UploadRight,
} from "../../services/MetadataStore.ts"
import type { DatabaseAge } from "../../services/DatabaseAge.ts"
import type { Outbox } from "../../services/Outbox.ts"
import type { ProjectDuties } from "../../services/ProjectDuties.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { RemovalQueue } from "../../services/RemovalQueue.ts"
import type { StoreGuard } from "../../services/StoreGuard.ts"

/** Everything that stands on one database, and the ids it needs. */
export type SqlServices =
  | Audit
  | Authenticator
  | ClaimStore
  | Ids
  | LeaseVerifier
  | MetadataStore
  | Outbox
  | ProjectDuties
  | ProjectStore
  | DatabaseAge
  | RemovalQueue
  | StoreGuard

export type SqlLayer = Layer.Layer<SqlServices, unknown>

export interface SuiteOptions {
  /** The layer serves several callers truly at once: run the sentences about races too. */
  readonly concurrent?: boolean
}

/** Shared suites run over real databases, whose own clock decides: no TestClock. */
export const live = { excludeTestServices: true } as const

export const all: ReadonlyArray<Permission> = [
  "mobius.project.view",
  "mobius.project.edit",
  "mobius.work.execute",
  "mobius.claims.manage",
]

export const quotaBytes = 1_000_000
export const sha = Sha256.make("ab".repeat(32))
export const unknownHandle = () => ProjectHandle.make(`t-${crypto.randomUUID()}`)
export const principal = (id: string, kind: Principal["kind"] = "agent") => new Principal({ kind, id })
export const worker = principal("worker")

/** A project of its own for one test. */
export const freshProject = (bytes: number | undefined = quotaBytes) =>
  Effect.gen(function* () {
    const handle = unknownHandle()
    yield* (yield* ProjectStore).put(handle, bytes)
    return handle
  })

export const callerOf = (
  project: ProjectHandle,
  who: Principal = worker,
  permissions: ReadonlyArray<Permission> = all,
) =>
  Effect.gen(function* () {
    const { record } = yield* (yield* Authenticator).issue({ project, principal: who, permissions })
    return new ProjectCaller({ keyId: record.id, project, principal: who, permissions })
  })

export const claimOf = (project: ProjectHandle, over: Partial<ConstructorParameters<typeof Claim>[0]> = {}) =>
  new Claim({
    project,
    jobId: "job:1",
    attempt: 1,
    workerSessionId: "session:1",
    runId: "run:1",
    stepId: "step:1",
    owner: principal("owner"),
    visibility: "shared",
    ...over,
  })

export const lineageOf = ({ attempt, jobId, runId, stepId, workerSessionId }: Claim): Lineage =>
  new Lineage({
    jobId,
    attempt,
    workerSessionId,
    ...(runId === undefined ? {} : { runId }),
    ...(stepId === undefined ? {} : { stepId }),
  })

/** A claim taken, with the proof its commits are checked by. */
export const leased = (claim: Claim, leaseSeconds = 60, who: Principal = worker) =>
  Effect.gen(function* () {
    const { token } = yield* (yield* ClaimStore).put(claim, leaseSeconds)
    const proof = yield* (yield* LeaseVerifier).confirm({ claim, principal: who, token })
    return { token, proof }
  })

export const blobKeyOf = (project: ProjectHandle, id: ArtifactId) => `${project}/${id}`

/** A pending row of `bytes` reserved bytes. */
export const beginUpload = (caller: ProjectCaller, over: Partial<PendingUpload> = {}) =>
  Effect.gen(function* () {
    const id = yield* (yield* Ids).artifact
    const upload: PendingUpload = {
      id,
      project: caller.project,
      blobKey: blobKeyOf(caller.project, id),
      createdBy: caller.principal,
      reservedBytes: 10,
      ...over,
    }
    const begun = yield* (yield* MetadataStore).begin(upload)
    return { id, upload, begun }
  })

export const requestOf = (caller: ProjectCaller, id: ArtifactId, over: Partial<CommitRequest> = {}) =>
  Effect.gen(function* () {
    const request: CommitRequest = {
      id,
      project: caller.project,
      name: "report.md",
      mime: "text/markdown",
      size: 10,
      sha256: sha,
      metadata: {},
      visibility: "shared",
      owner: caller.principal,
      lineage: undefined,
      keyId: caller.keyId,
      eventId: yield* (yield* Ids).event,
      lease: undefined,
      ...over,
    }
    return request
  })

/** The right by which an upload of this caller goes on; lease-free unless `over` says otherwise. */
export const rightOf = (caller: ProjectCaller, over: Partial<UploadRight> = {}): UploadRight => ({
  project: caller.project,
  keyId: caller.keyId,
  lineage: undefined,
  lease: undefined,
  ...over,
})

/** Begins and commits in one go; lease-free unless `over` says otherwise. */
export const publish = (caller: ProjectCaller, over: Partial<CommitRequest> = {}, begin: Partial<PendingUpload> = {}) =>
  Effect.gen(function* () {
    const { id } = yield* beginUpload(caller, begin)
    return yield* (yield* MetadataStore).commit(yield* requestOf(caller, id, over))
  })

/** Deletes with a new event id. */
export const removeAs = (caller: ProjectCaller, id: string) =>
  Effect.gen(function* () {
    return yield* (yield* MetadataStore).remove(caller, id, yield* (yield* Ids).event)
  })

/** The tag of the refusal; dies when the effect succeeds, so that a test cannot pass by success. */
export const refusal = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(
    Effect.flip,
    Effect.map((error) => error._tag),
  )

export const wrong = Redacted.make("lease_" + "0".repeat(64))
