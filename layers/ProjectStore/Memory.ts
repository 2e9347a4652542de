import { Effect, Layer } from "effect"
import { ProjectStore } from "../../services/ProjectStore.ts"
import {
  atomically,
  findProject,
  instant,
  MemoryDatabase,
  projectOf,
  type ProjectRow,
  usageOf,
} from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** `defaultQuotaBytes` is the limit of projects without one of their own. */
export const layer = (options: { readonly defaultQuotaBytes: number }) =>
  Layer.effect(
    ProjectStore,
    Effect.gen(function* () {
      const state = yield* MemoryDatabase
      const view = (row: ProjectRow) => ({ project: projectOf(row), usage: usageOf(row, options.defaultQuotaBytes) })
      const pending = (handle: string) =>
        [...state.artifacts.values()].filter((row) => row.state === "pending" && row.upload.project === handle)
      return {
        put: traced("ProjectStore.put")((handle, quotaBytes) =>
          atomically((now) => {
            const known = state.projects.get(handle)
            if (known === undefined) {
              const row: ProjectRow = {
                handle,
                quotaBytes,
                createdAt: instant(now),
                usedBytes: 0,
                artifactCount: 0,
                version: 1,
                duty: { epoch: 0, dueAt: now, pauseSeconds: 60, seenVersion: undefined },
              }
              state.projects.set(handle, row)
              return Effect.succeed(view(row))
            }
            if (quotaBytes !== undefined && quotaBytes !== known.quotaBytes) {
              known.quotaBytes = quotaBytes
              known.version++
              Object.assign(known.duty, { dueAt: now, pauseSeconds: 60 })
            }
            return Effect.succeed(view(known))
          }),
        ),
        get: traced("ProjectStore.get")((handle) =>
          Effect.map(findProject(state, handle), (row) => ({ ...view(row), pendingCount: pending(handle).length })),
        ),
        quotaSnapshot: traced("ProjectStore.quotaSnapshot")((handle) =>
          Effect.map(findProject(state, handle), (row) => ({
            usage: view(row).usage,
            reservations: pending(handle).map((one) => ({ uploadId: one.upload.id, bytes: one.reservedBytes })),
          })),
        ),
      }
    }),
  )
