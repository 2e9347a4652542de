import { Effect, Layer } from "effect"
import { type AbandonedUpload, type Due, ProjectDuties, StaleEpoch } from "../../services/ProjectDuties.ts"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import { atomically, MemoryDatabase } from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** Over the shared memory database; as strict as Postgres about epochs. */
export const layer = Layer.effect(
  ProjectDuties,
  Effect.gen(function* () {
    const state = yield* MemoryDatabase

    const stale = (staleSeconds: number, now: number) =>
      [...state.artifacts.values()]
        .filter(
          (row) => (row.state === "pending" || row.state === "fenced") && row.renewedAt <= now - staleSeconds * 1000,
        )
        .toSorted((a, b) => a.renewedAt - b.renewedAt)

    /** Runs `body` if the epoch is the project's latest. */
    const fenced = <A>(project: ProjectHandle, epoch: number, body: (now: number) => A) =>
      atomically((now) => {
        if (state.projects.get(project)?.duty.epoch !== epoch) return new StaleEpoch({ project, epoch })
        return Effect.sync(() => body(now))
      })

    return ProjectDuties.of({
      due: traced("ProjectDuties.due")(({ limit, staleSeconds }) =>
        atomically((now) => {
          const found = new Map<string, Due & { readonly since: number }>()
          const add = (project: ProjectHandle, since: number, sweep: boolean) => {
            const known = found.get(project)
            found.set(project, {
              project,
              sweep: sweep || known?.sweep === true,
              reconcile: !sweep || known?.reconcile === true,
              since: Math.min(since, known?.since ?? Infinity),
            })
          }
          for (const { renewedAt, upload } of stale(staleSeconds, now)) add(upload.project, renewedAt, true)
          for (const { duty, handle } of state.projects.values()) if (duty.dueAt <= now) add(handle, duty.dueAt, false)
          const first = [...found.values()].sort((a, b) => a.since - b.since).slice(0, limit)
          return Effect.succeed(first.map(({ project, reconcile, sweep }): Due => ({ project, sweep, reconcile })))
        }),
      ),
      take: traced("ProjectDuties.take")((project) =>
        Effect.sync(() => {
          const row = state.projects.get(project)
          return row && ++row.duty.epoch
        }),
      ),
      fenceStale: traced("ProjectDuties.fenceStale")((project, epoch, { limit, staleSeconds }) =>
        fenced(project, epoch, (now) =>
          stale(staleSeconds, now)
            .filter(({ upload }) => upload.project === project)
            .slice(0, limit)
            .map((row): AbandonedUpload => {
              row.state = "fenced"
              row.idempotency = undefined
              row.renewedAt = now
              return { id: row.upload.id, blobKey: row.upload.blobKey }
            }),
        ),
      ),
      forget: traced("ProjectDuties.forget")((project, epoch, id) =>
        fenced(project, epoch, () => {
          if (state.artifacts.get(id)?.state === "fenced") state.artifacts.delete(id)
        }),
      ),
      reconciled: traced("ProjectDuties.reconciled")((project, epoch, version) =>
        fenced(project, epoch, (now) => {
          const duty = state.projects.get(project)?.duty
          if (duty === undefined) return
          duty.pauseSeconds = duty.seenVersion === version ? Math.min(3600, duty.pauseSeconds * 2) : 60
          duty.seenVersion = version
          duty.dueAt = now + duty.pauseSeconds * 1000
        }),
      ),
    })
  }),
)
