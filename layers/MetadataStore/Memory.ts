import { DateTime, Effect, Layer } from "effect"
import { Unauthorized } from "../../services/Authenticator.ts"
import {
  type Begun,
  type CommitRequest,
  MetadataStore,
  type PendingUpload,
  UploadFenced,
  type UploadRight,
  UploadSuperseded,
} from "../../services/MetadataStore.ts"
import { Artifact, ArtifactNotFound, chargeOf, PermissionDenied } from "../../src/domain/Artifact.ts"
import { LeaseLost } from "../../src/domain/Claim.ts"
import type { ArtifactId, EventId } from "../../src/domain/Ids.ts"
import { type Principal, samePrincipal } from "../../src/domain/Principal.ts"
import { QuotaExceeded } from "../../src/domain/Quota.ts"
import { EventArtifact, type EventType } from "../../src/domain/SourceEvent.ts"
import {
  type ArtifactRow,
  atomically,
  committed,
  findProject,
  instant,
  isLive,
  jobKey,
  leaseEndOf,
  MemoryDatabase,
  type MemoryState,
  toHex,
  usageOf,
} from "../clients/Memory.ts"
import { afterCursor, cursorAt, deletable, matches, newestFirst, pageOf, scopeOf } from "./memoryRules.ts"
import { readable, visible } from "../../src/domain/Visibility.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** An introspected answer may be this old at the commit. */
const introspectionMillis = 2_000

/** The claim by whose token a request goes on, while it is live. */
const liveClaim = (state: MemoryState, { lease, project }: Pick<CommitRequest, "lease" | "project">, now: number) => {
  const token = lease === undefined ? "" : toHex(lease.tokenHash)
  const row = state.tokens.get(token)
  return row !== undefined && row.claim.project === project && isLive(row, token, now) ? row.claim : undefined
}

const leaseHolds = (state: MemoryState, request: CommitRequest, createdBy: Principal, now: number): boolean => {
  const { lease, lineage, owner, project, visibility } = request
  if (lease === undefined || lineage === undefined) return lease === undefined && lineage === undefined
  if (lease._tag === "Introspected") {
    const highest = state.attempts.get(jobKey(project, lineage.jobId)) ?? 0
    return Math.abs(now - lease.askedAtMillis) <= introspectionMillis && lineage.attempt >= highest
  }
  const claim = liveClaim(state, request, now)
  return (
    claim !== undefined &&
    lineage.jobId === claim.jobId &&
    lineage.attempt === claim.attempt &&
    lineage.workerSessionId === claim.workerSessionId &&
    lineage.runId === claim.runId &&
    lineage.stepId === claim.stepId &&
    samePrincipal(owner, claim.owner) &&
    visibility === claim.visibility &&
    (claim.workerPrincipalId === undefined || claim.workerPrincipalId === createdBy.id)
  )
}

/** Whether a request may take a pending upload over: its token is live, if it has one of our own claims. */
const mayTakeOver = (state: MemoryState, { lease, project }: PendingUpload, now: number): boolean =>
  lease?._tag !== "ClaimRow" || liveClaim(state, { lease, project }, now) !== undefined

/** Whether the claim that an open upload goes on by is live; who asks for a renewal has asked for an introspected one. */
const stillLeased = (state: MemoryState, right: UploadRight, now: number): boolean => {
  if (right.lease?._tag !== "ClaimRow") return true
  const claim = liveClaim(state, right, now)
  return claim !== undefined && claim.jobId === right.lineage?.jobId && claim.attempt === right.lineage.attempt
}

const leaseLost = (state: MemoryState, { lease, lineage, project }: UploadRight, now: number): LeaseLost => {
  if (lineage === undefined) return new LeaseLost({})
  const { attempt, jobId } = lineage
  const row = state.claims.get(jobKey(project, jobId))
  const token = lease?._tag === "ClaimRow" ? toHex(lease.tokenHash) : undefined
  const reason =
    row === undefined || token === undefined || isLive(row, token, now) ? undefined : leaseEndOf(row, token)
  return new LeaseLost({ jobId, attempt, reason })
}

const keyHolds = (state: MemoryState, { keyId, project }: UploadRight, now: number): boolean =>
  [...state.apiKeys.values()].some(
    ({ id, project: home, expiresAt }) =>
      id === keyId && home === project && (expiresAt === undefined || now < DateTime.toEpochMillis(expiresAt)),
  )

/** `defaultQuotaBytes` is the limit of projects without one of their own, as for the project store. */
export const layer = (options: { readonly defaultQuotaBytes: number }) =>
  Layer.effect(
    MetadataStore,
    Effect.gen(function* () {
      const state = yield* MemoryDatabase
      const rows = () => [...state.artifacts.values()]

      const holderOf = (scope: string | undefined) =>
        scope === undefined ? undefined : rows().find(({ idempotency }) => idempotency === scope)
      const replayOf = (row: ArtifactRow): Exclude<Begun, { _tag: "Begun" }> =>
        row.artifact === undefined ? { _tag: "InProgress" } : { _tag: "Replay", artifact: row.artifact }
      const write = (id: EventId, type: EventType, artifact: Artifact, now: number) =>
        state.events.push({
          id,
          type,
          artifact: EventArtifact.of(artifact),
          occurredAt: now,
          receivedAt: now,
          sequence: undefined,
          publishedAt: undefined,
        })
      const ready = (id: string, may: (artifact: Artifact) => boolean) =>
        Effect.suspend(() => {
          const row = state.artifacts.get(id)
          return row?.state === "ready" && row.artifact !== undefined && may(row.artifact)
            ? Effect.succeed({ artifact: row.artifact, blobKey: row.upload.blobKey })
            : new ArtifactNotFound({ id })
        })
      const fence = (row: ArtifactRow | undefined, supersededBy?: ArtifactId) => {
        if (row?.state !== "pending") return
        row.state = "fenced"
        row.idempotency = undefined
        row.supersededBy = supersededBy
      }
      const fencedOrGone = (id: ArtifactId, row: ArtifactRow | undefined) =>
        row?.supersededBy === undefined ? new UploadFenced({ id }) : new UploadSuperseded({ id })

      return {
        begin: traced("MetadataStore.begin")((upload) =>
          atomically((now) =>
            Effect.map(findProject(state, upload.project), (): Begun => {
              const scope = upload.idempotency && scopeOf(upload.project, upload.idempotency)
              const holder = holderOf(scope)
              if (holder !== undefined && (holder.state !== "pending" || !mayTakeOver(state, upload, now)))
                return replayOf(holder)
              fence(holder, upload.id)
              state.artifacts.set(upload.id, {
                upload,
                state: "pending",
                idempotency: scope,
                supersededBy: undefined,
                reservedBytes: upload.reservedBytes,
                renewedAt: now,
                artifact: undefined,
                chargedBytes: 0,
              })
              return { _tag: "Begun", superseded: holder?.upload.id }
            }),
          ),
        ),
        findReplay: traced("MetadataStore.findReplay")((project, idempotency) =>
          Effect.sync(() => {
            const holder = holderOf(scopeOf(project, idempotency))
            return holder && replayOf(holder)
          }),
        ),
        renew: traced("MetadataStore.renew")((id, reservedBytes, right) =>
          atomically((now) => {
            const row = state.artifacts.get(id)
            if (row?.state !== "pending") return fencedOrGone(id, row)
            if (!stillLeased(state, right, now)) return leaseLost(state, right, now)
            if (!keyHolds(state, right, now)) return new Unauthorized()
            row.reservedBytes = reservedBytes
            row.renewedAt = now
            return Effect.void
          }),
        ),
        commit: traced("MetadataStore.commit")((request) =>
          atomically((now) => {
            const { id, lease, lineage } = request
            const row = state.artifacts.get(id)
            const project = state.projects.get(request.project)
            const mine = row?.upload.project === request.project
            if (mine && row.state === "ready" && row.artifact !== undefined && project !== undefined)
              return Effect.succeed({ artifact: row.artifact, usage: usageOf(project, options.defaultQuotaBytes) })
            if (!mine || row.state !== "pending" || project === undefined)
              return fencedOrGone(id, mine ? row : undefined)
            if (!leaseHolds(state, request, row.upload.createdBy, now)) return leaseLost(state, request, now)
            if (!keyHolds(state, request, now)) return new Unauthorized()
            const { limitBytes, usedBytes } = usageOf(project, options.defaultQuotaBytes)
            const charge = chargeOf(request)
            if (usedBytes + charge > limitBytes)
              return new QuotaExceeded({ limitBytes, usedBytes, reservedBytes: 0, requestedBytes: charge })
            if (lease?._tag === "Introspected" && lineage !== undefined)
              state.attempts.set(jobKey(request.project, lineage.jobId), lineage.attempt)
            const artifact = committed(row, request, now)
            row.state = "ready"
            row.artifact = artifact
            row.reservedBytes = 0
            row.chargedBytes = charge
            project.usedBytes += charge
            project.artifactCount++
            project.version++
            write(request.eventId, "artifact.created", artifact, now)
            return Effect.succeed({ artifact, usage: usageOf(project, options.defaultQuotaBytes) })
          }),
        ),
        outcome: traced("MetadataStore.outcome")((id) =>
          Effect.sync(() => {
            const row = state.artifacts.get(id)
            const project = row && state.projects.get(row.upload.project)
            if (row?.artifact !== undefined && project !== undefined)
              return {
                _tag: "Ready" as const,
                artifact: row.artifact,
                usage: usageOf(project, options.defaultQuotaBytes),
              }
            return row?.state === "pending" ? { _tag: "Pending" as const } : { _tag: "Gone" as const }
          }),
        ),
        fence: traced("MetadataStore.fence")((id) => Effect.sync(() => fence(state.artifacts.get(id)))),
        forget: traced("MetadataStore.forget")((id) =>
          Effect.sync(() => {
            if (state.artifacts.get(id)?.state === "fenced") state.artifacts.delete(id)
          }),
        ),
        unknownBlobKeys: traced("MetadataStore.unknownBlobKeys")((keys) =>
          Effect.sync(() => {
            const known = new Set(state.removals.keys())
            for (const row of rows()) if (row.state !== "deleted") known.add(row.upload.blobKey)
            return keys.filter((key) => !known.has(key))
          }),
        ),
        uploadingBlobKeys: traced("MetadataStore.uploadingBlobKeys")((keys) =>
          Effect.sync(() => {
            const uploading = rows().filter((row) => row.state === "pending")
            const known = new Set(uploading.map(({ upload }) => upload.blobKey))
            return keys.filter((key) => known.has(key))
          }),
        ),
        find: traced("MetadataStore.find")((caller, id, { includeDeleted }) =>
          Effect.suspend(() => {
            const artifact = state.artifacts.get(id)?.artifact
            return artifact === undefined ||
              !visible(caller, artifact) ||
              (artifact.deletion !== undefined && !includeDeleted)
              ? new ArtifactNotFound({ id })
              : Effect.succeed(artifact)
          }),
        ),
        findContent: traced("MetadataStore.findContent")((caller, id) =>
          ready(id, (artifact) => readable(caller, artifact)),
        ),
        findSigned: traced("MetadataStore.findSigned")((id) => ready(id, () => true)),
        list: traced("MetadataStore.list")((caller, filter) =>
          Effect.map(afterCursor(filter.cursor), (after) => {
            const found = rows()
              .flatMap(({ artifact }) => artifact ?? [])
              .filter((one) => visible(caller, one) && matches(filter, one) && after(one))
              .sort(newestFirst)
            const items = pageOf(found, filter.limit)
            const last = items.at(-1)
            return { items, nextCursor: found.length > items.length && last ? cursorAt(last) : undefined }
          }),
        ),
        remove: traced("MetadataStore.remove")((caller, id, eventId) =>
          atomically((now) => {
            const row = state.artifacts.get(id)
            const project = state.projects.get(caller.project)
            if (row?.artifact === undefined || project === undefined || !visible(caller, row.artifact))
              return new ArtifactNotFound({ id })
            if (!deletable(caller, row.artifact)) return new PermissionDenied({ permission: "mobius.project.edit" })
            const { blobKey } = row.upload
            if (row.state === "deleted") {
              const waiting = state.removals.has(blobKey) ? blobKey : undefined
              return Effect.succeed({ artifact: row.artifact, blobKey: waiting, usage: undefined })
            }
            const deletion = { at: instant(now), by: caller.principal }
            const artifact = new Artifact({ ...row.artifact, metadata: {}, deletion })
            row.state = "deleted"
            row.artifact = artifact
            project.usedBytes -= row.chargedBytes
            project.artifactCount--
            project.version++
            state.removals.set(blobKey, { attempt: 0, dueAt: now })
            write(eventId, "artifact.deleted", artifact, now)
            return Effect.succeed({ artifact, blobKey, usage: usageOf(project, options.defaultQuotaBytes) })
          }),
        ),
        ping: Effect.void,
      }
    }),
  )
