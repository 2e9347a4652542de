import { Context, Effect, Layer } from "effect"
import * as MemoryDatabaseLayer from "../../layers/clients/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import { MemoryDatabase } from "../../layers/clients/Memory.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { ArtifactId, type ProjectHandle } from "../../src/domain/Ids.ts"
import { Usage } from "../../src/domain/Quota.ts"
import { worker } from "./fixtures.ts"

/** Counters over the books of the memory database, which tests write to as another node's commit would. */
export type QuotaLayer = Layer.Layer<QuotaCounters | ProjectStore | MemoryDatabase, unknown>

/** Moves the project's books in the truth, one version on; returns what a commit would hand to the counters. */
export const books = (project: ProjectHandle, change: { readonly used?: number; readonly limit?: number }) =>
  Effect.map(MemoryDatabase, ({ projects }) => {
    const row = projects.get(project)
    if (row === undefined) throw new Error(`no project ${project}`)
    row.usedBytes = change.used ?? row.usedBytes
    row.quotaBytes = change.limit ?? row.quotaBytes
    row.version++
    return new Usage({
      usedBytes: row.usedBytes,
      limitBytes: row.quotaBytes ?? 0,
      artifactCount: row.artifactCount,
      version: row.version,
    })
  })

/** A pending upload as the truth knows it; returns its id. */
export const pendingUpload = (project: ProjectHandle, bytes: number) =>
  Effect.map(MemoryDatabase, ({ artifacts }) => {
    const id = ArtifactId.make(`art_${crypto.randomUUID().replaceAll("-", "")}`)
    artifacts.set(id, {
      upload: { id, project, blobKey: id, createdBy: worker, reservedBytes: bytes },
      state: "pending",
      idempotency: undefined,
      supersededBy: undefined,
      reservedBytes: bytes,
      renewedAt: 0,
      artifact: undefined,
      chargedBytes: 0,
    })
    return id
  })

/** What a test says of an upload: reserve in the fewest words. */
export const ask = (project: ProjectHandle, upload: string, need: number, want = need) =>
  Effect.flatMap(QuotaCounters, (counters) => counters.reserve(project, upload, { need, want }))

export const usage = (project: ProjectHandle) => Effect.flatMap(QuotaCounters, (counters) => counters.usage(project))

/** How often the books of each project were read. */
const reads = new Map<string, number>()
export const lookUps = Effect.sync(() => (project: ProjectHandle) => reads.get(project) ?? 0)

/** The truth the counters are held against: books and pending rows in memory. */
export const truth = Layer.map(ProjectStoreMemory.layer({ defaultQuotaBytes: 100 }), (context) => {
  const store = Context.get(context, ProjectStore)
  const quotaSnapshot: typeof store.quotaSnapshot = (handle) =>
    Effect.suspend(() => {
      reads.set(handle, (reads.get(handle) ?? 0) + 1)
      return store.quotaSnapshot(handle)
    })
  return Context.make(ProjectStore, { ...store, quotaSnapshot })
}).pipe(Layer.provideMerge(MemoryDatabaseLayer.layer))
