import * as Entity from "@effect/cluster/Entity"
import { Effect } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { type AbandonedUpload, ProjectDuties, type StaleEpoch } from "../../services/ProjectDuties.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { ProjectHandle } from "../domain/Ids.ts"
import { Project } from "./ProjectProtocol.ts"
import { dutyDone } from "../telemetry/Duties.ts"
import { traced } from "../telemetry/Spans.ts"

/** Uploads fenced in one step of a sweep. */
const sweepLimit = 200

/**
 * Ends uploads whose owner has been silent for `staleSeconds`, all of them: fenced first, so that no commit can succeed,
 * then the room is given back, the bytes removed and the row forgotten. A running upload renews itself and is never
 * touched. Returns how many were fenced.
 */
export const sweep = traced("Project.sweep")(function* (project: ProjectHandle, epoch: number, staleSeconds: number) {
  const duties = yield* ProjectDuties
  const blobs = yield* BlobStore
  const quota = yield* QuotaCounters
  const end = ({ blobKey, id }: AbandonedUpload) =>
    quota.release(project, id).pipe(
      Effect.ignoreLogged,
      Effect.zipRight(blobs.remove(blobKey)),
      Effect.zipRight(duties.forget(project, epoch, id)),
      Effect.catchTag("DependencyUnavailable", (fault) =>
        Effect.logWarning("The leftovers of an upload could not be removed; a later sweep will.", fault),
      ),
    )
  let fenced = 0
  for (let more = true; more;) {
    const stale = yield* duties.fenceStale(project, epoch, { staleSeconds, limit: sweepLimit })
    yield* Effect.forEach(stale, end, { concurrency: 8, discard: true })
    fenced += stale.length
    more = stale.length === sweepLimit
  }
  return fenced
})

/** Holds the counters against the books and says when to look again. */
export const reconcile = traced("Project.reconcile")(function* (project: ProjectHandle, epoch: number) {
  const version = yield* (yield* QuotaCounters).rebuild(project)
  yield* (yield* ProjectDuties).reconciled(project, epoch, version)
})

/**
 * One project's actor. It takes its epoch at its first message and keeps it; once another has taken the project over,
 * each of its writes is refused, and it begins anew only with another message. A message that fails is only logged: the next tick sends another.
 */
export const layer = (options: { readonly abandonedAfterSeconds: number }) =>
  Project.toLayer(
    Effect.gen(function* () {
      const duties = yield* ProjectDuties
      const context = yield* Effect.context<QuotaCounters | BlobStore | ProjectDuties>()
      const project = ProjectHandle.make((yield* Entity.CurrentAddress).entityId)
      let taken: number | undefined

      const acting = <E>(
        duty: "Sweep" | "Reconcile",
        act: (epoch: number) => Effect.Effect<unknown, E | StaleEpoch, QuotaCounters | BlobStore | ProjectDuties>,
      ) =>
        Effect.gen(function* () {
          taken ??= yield* duties.take(project)
          if (taken === undefined) return
          yield* act(taken)
          yield* dutyDone(duty === "Sweep" ? "sweep" : "reconcile")
        }).pipe(
          Effect.timeout("1 minute"),
          Effect.catchTag("StaleEpoch", () => {
            taken = undefined
            return Effect.logInfo(`Another actor has taken the project over: ${duty} stopped.`)
          }),
          Effect.catchAllCause((cause) =>
            Effect.logError(`${duty} of a project failed and is left to the next tick.`, cause),
          ),
          Effect.annotateLogs("project", project),
          Effect.provide(context),
        )

      return {
        Sweep: () => acting("Sweep", (epoch) => sweep(project, epoch, options.abandonedAfterSeconds)),
        Reconcile: () => acting("Reconcile", (epoch) => reconcile(project, epoch)),
      }
    }),
    // By default one defect is replayed for ever and blocks its entity.
    { disableFatalDefects: true, maxIdleTime: "2 minutes" },
  )
