import { Context, DateTime, Effect, Layer, Redacted } from "effect"
import type { AuditEntry } from "../../services/AuditTrail.ts"
import type { ApiKeyRecord } from "../../services/Authenticator.ts"
import type { CommitRequest, PendingUpload } from "../../services/MetadataStore.ts"
import type { Pruned, PruneStep } from "../../services/Pruning.ts"
import type { Hold } from "../../services/StoreGuard.ts"
import { Artifact } from "../../src/domain/Artifact.ts"
import type { Claim, LeaseEnd } from "../../src/domain/Claim.ts"
import type { ArtifactId, EventId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Project, ProjectNotFound } from "../../src/domain/Project.ts"
import { Usage } from "../../src/domain/Quota.ts"
import type { EventArtifact, EventType } from "../../src/domain/SourceEvent.ts"

export interface ProjectRow {
  readonly handle: ProjectHandle
  quotaBytes: number | undefined
  readonly createdAt: DateTime.Utc
  usedBytes: number
  artifactCount: number
  version: number
  /** See services/ProjectDuties.ts. */
  readonly duty: { epoch: number; dueAt: number; pauseSeconds: number; seenVersion: number | undefined }
}

/** One attempt at a job. Times in milliseconds of the Effect clock. */
export interface ClaimRow {
  readonly claim: Claim
  leaseSeconds: number
  expiresAt: number
  /** SHA-256 of the one token that counts, in hex. */
  token: string
  ended: { readonly at: number; readonly by: "release" | "supersede" } | undefined
  readonly takenAt: number
}

export interface ArtifactRow {
  readonly upload: PendingUpload
  state: "pending" | "fenced" | "ready" | "deleted"
  /** Holds the key until fenced; `undefined` for uploads without one. */
  idempotency: string | undefined
  /** Who fenced it, when that was a newer upload with the same key. */
  supersededBy: ArtifactId | undefined
  reservedBytes: number
  renewedAt: number
  /** From ready on. */
  artifact: Artifact | undefined
  /** What the project was charged at the commit; 0 before it. */
  chargedBytes: number
}

export interface EventRow {
  readonly id: EventId
  readonly type: EventType
  readonly artifact: EventArtifact
  readonly occurredAt: number
  receivedAt: number
  sequence: number | undefined
  publishedAt: number | undefined
}

export interface MemoryState {
  readonly projects: Map<string, ProjectRow>
  /** By SHA-256 of the key, in hex. */
  readonly apiKeys: Map<string, ApiKeyRecord>
  /** The latest attempt of each job, by `jobKey`. */
  readonly claims: Map<string, ClaimRow>
  /** Every token still remembered, by its SHA-256 in hex. */
  readonly tokens: Map<string, ClaimRow>
  /** The highest attempt committed by introspection or forgotten by pruning, by `jobKey`. */
  readonly attempts: Map<string, number>
  readonly artifacts: Map<string, ArtifactRow>
  /** By blob key. */
  readonly removals: Map<string, { attempt: number; dueAt: number }>
  events: Array<EventRow>
  readonly auditEntries: Array<AuditEntry>
  lastSequence: number
  lastPublished: number
  /** See services/StoreGuard.ts. */
  readonly store: {
    readonly id: string
    placed: boolean
    hold: Hold | undefined
    readonly marks: Map<string, { readonly position: number; readonly madeAt: number }>
    /** `handedAt` counts turns, of which several may be taken in a millisecond; 0: not handed out yet. */
    readonly candidates: Map<string, { readonly firstSeenAt: number; handedAt: number }>
    turn: number
    readonly listing: { epoch: number; after: string | undefined }
  }
}

/** What the memory layers share in place of a database; lives and dies with its layer. */
export class MemoryDatabase extends Context.Tag("layers/clients/MemoryDatabase")<MemoryDatabase, MemoryState>() {}

export const layer = Layer.sync(MemoryDatabase, () => ({
  projects: new Map(),
  apiKeys: new Map(),
  claims: new Map(),
  tokens: new Map(),
  attempts: new Map(),
  artifacts: new Map(),
  removals: new Map(),
  events: [],
  auditEntries: [],
  lastSequence: 0,
  lastPublished: 0,
  store: {
    id: crypto.randomUUID(),
    placed: false,
    hold: undefined,
    marks: new Map(),
    candidates: new Map(),
    turn: 0,
    listing: { epoch: 0, after: undefined },
  },
}))

/** A transaction: `body` runs in one go at one instant (milliseconds), and must refuse before it changes anything. */
export const atomically = <Outcome extends Effect.Effect<unknown, unknown>>(
  body: (now: number) => Outcome,
): Effect.Effect<Effect.Effect.Success<Outcome>, Effect.Effect.Error<Outcome>> =>
  Effect.clockWith(
    (clock) =>
      body(clock.unsafeCurrentTimeMillis()) as Effect.Effect<
        Effect.Effect.Success<Outcome>,
        Effect.Effect.Error<Outcome>
      >,
  )

export const instant = (millis: number): DateTime.Utc => DateTime.unsafeMake(millis)

export const jobKey = (project: string, jobId: string): string => JSON.stringify([project, jobId])

/** SHA-256 of a secret, as its bytes and in hex. Secrets themselves are never kept. */
export const hashSecret = (secret: Redacted.Redacted) =>
  Effect.promise(() => crypto.subtle.digest("SHA-256", new TextEncoder().encode(Redacted.value(secret)))).pipe(
    Effect.map((digest) => {
      const bytes = new Uint8Array(digest)
      return { bytes, hex: toHex(bytes) }
    }),
  )

export const toHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

/** What ended the lease of a token first, or will. */
export const leaseEndOf = ({ ended, expiresAt, token }: ClaimRow, of: string): LeaseEnd => {
  if (token !== of) return "superseded"
  if (ended === undefined || expiresAt <= ended.at) return "expired"
  return ended.by === "release" ? "released" : "superseded"
}

export const isLive = (row: ClaimRow, token: string, now: number): boolean =>
  row.token === token && row.ended === undefined && now < row.expiresAt

export const usageOf = (row: ProjectRow, defaultQuotaBytes: number): Usage =>
  new Usage({
    usedBytes: row.usedBytes,
    limitBytes: row.quotaBytes ?? defaultQuotaBytes,
    artifactCount: row.artifactCount,
    version: row.version,
  })

export const projectOf = (row: ProjectRow): Project =>
  new Project({
    handle: row.handle,
    createdAt: row.createdAt,
    ...(row.quotaBytes === undefined ? {} : { quotaBytes: row.quotaBytes }),
  })

export const findProject = (state: MemoryState, handle: string): Effect.Effect<ProjectRow, ProjectNotFound> => {
  const row = state.projects.get(handle)
  return row === undefined ? new ProjectNotFound({ project: handle }) : Effect.succeed(row)
}

/** The artifact a commit makes of its row. */
export const committed = (row: ArtifactRow, request: CommitRequest, now: number): Artifact =>
  new Artifact({
    id: row.upload.id,
    project: row.upload.project,
    name: request.name,
    mime: request.mime,
    size: request.size,
    sha256: request.sha256,
    visibility: request.visibility,
    owner: request.owner,
    createdBy: row.upload.createdBy,
    ...(request.lineage === undefined ? {} : { lineage: request.lineage }),
    metadata: structuredClone(request.metadata),
    createdAt: instant(now),
  })

/** Removes up to `limit` of the entries that are due, after `keep` had a look at each. */
export const pruneMap = <K, V>(
  map: Map<K, V>,
  { limit }: PruneStep,
  isDue: (value: V) => boolean,
  keep: (value: V, key: K) => unknown = () => {},
): Pruned => {
  const due = [...map].filter(([, value]) => isDue(value))
  for (const [key, value] of due.slice(0, limit)) {
    keep(value, key)
    map.delete(key)
  }
  return { removed: Math.min(due.length, limit), next: due.length > limit ? "next" : undefined }
}

/** How long a token is remembered past its claim's end. */
export const tokenMemoryMillis = 24 * 3_600_000

/** When the claim ended, or will if nobody prolongs it. */
export const endOf = (row: ClaimRow): number => Math.min(row.ended?.at ?? Infinity, row.expiresAt)
