import { Effect, Layer } from "effect"
import { Audit } from "../../services/Audit.ts"
import { MemoryDatabase } from "../clients/Memory.ts"

/** Over the shared memory database. */
export const layer = Layer.effect(
  Audit,
  Effect.map(MemoryDatabase, (state) => {
    const readyRows = () =>
      [...state.artifacts.values()].flatMap(({ artifact, chargedBytes, state: now, upload }) =>
        now === "ready" && artifact !== undefined ? [{ artifact, chargedBytes, blobKey: upload.blobKey }] : [],
      )
    const sumOf = (project: string) => {
      const own = readyRows().filter(({ artifact }) => artifact.project === project)
      return { bytes: own.reduce((sum, { chargedBytes }) => sum + chargedBytes, 0), count: own.length }
    }
    return Audit.of({
      ready: (after = "", limit) =>
        Effect.sync(() =>
          readyRows()
            .map(({ artifact: { id, project, sha256, size }, blobKey }) => ({ id, project, blobKey, size, sha256 }))
            .filter(({ id }) => id > after)
            .sort((a, b) => (a.id < b.id ? -1 : 1))
            .slice(0, limit),
        ),
      stillReady: (ids) => Effect.sync(() => ids.filter((id) => state.artifacts.get(id)?.state === "ready")),
      usage: (after = "", limit) =>
        Effect.sync(() =>
          [...state.projects.values()]
            .filter(({ handle }) => handle > after)
            .sort((a, b) => (a.handle < b.handle ? -1 : 1))
            .slice(0, limit)
            .map(({ artifactCount, handle, usedBytes }) => ({
              project: handle,
              booked: { bytes: usedBytes, count: artifactCount },
              summed: sumOf(handle),
            })),
        ),
      recount: (project) =>
        Effect.sync(() => {
          const row = state.projects.get(project)
          const { bytes, count } = sumOf(project)
          if (row === undefined || (row.usedBytes === bytes && row.artifactCount === count)) return false
          Object.assign(row, { usedBytes: bytes, artifactCount: count })
          row.version++
          return true
        }),
      placesOf: (ids) =>
        Effect.sync(() =>
          state.events.flatMap(({ id, sequence }) =>
            ids.includes(id) && sequence !== undefined ? [{ id, sequence }] : [],
          ),
        ),
    })
  }),
)
