import { Effect } from "effect"
import { Audit, type BookedUsage } from "../../services/Audit.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { ProjectHandle } from "../domain/Ids.ts"
import { Findings } from "./Report.ts"

/** Projects whose artifacts are summed in one statement. */
const page = 20

const everyProject = <E, R>(look: (usage: BookedUsage) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const audit = yield* Audit
    let examined = 0
    for (let after: string | undefined; ;) {
      const projects = yield* audit.usage(after, page)
      yield* Effect.forEach(projects, look, { discard: true })
      examined += projects.length
      after = projects.at(-1)?.project
      if (after === undefined) return examined
    }
  })

/** Each project's usage is the sum of its artifacts' rows. */
export const usageIsSum = (repair: boolean) =>
  Effect.gen(function* () {
    const audit = yield* Audit
    const { found } = yield* Findings
    return yield* everyProject(({ booked, project, summed }) =>
      booked.bytes === summed.bytes && booked.count === summed.count
        ? Effect.void
        : Effect.gen(function* () {
            if (repair) yield* audit.recount(project)
            yield* found(
              "usage_differs",
              {
                project,
                used_bytes: booked.bytes,
                summed_bytes: summed.bytes,
                artifact_count: booked.count,
                summed_count: summed.count,
              },
              repair,
            )
          }),
    )
  })

/** Counters hear of a commit within this time. */
const settled = "2 seconds"

/** Counters that say something else than the usage of their version, or that never heard of a later one. */
const difference = (project: ProjectHandle) =>
  Effect.gen(function* () {
    const counters = yield* QuotaCounters
    // In this order: versions only rise, so counters beyond the usage read after them are of a state that is lost.
    const told = yield* counters.peek(project)
    const { usage } = yield* (yield* ProjectStore).get(project)
    if (told === undefined) return undefined
    const agree = told.usedBytes === usage.usedBytes && told.limitBytes === usage.limitBytes
    if (told.version === usage.version && agree) return undefined
    if (told.version < usage.version) {
      yield* Effect.sleep(settled)
      const later = yield* counters.peek(project)
      if (later === undefined || later.version >= usage.version) return undefined
    }
    return { told, usage }
  }).pipe(Effect.catchTag("ProjectNotFound", () => Effect.succeed(undefined)))

/** The quota counters of each project agree with its usage, where there are any: missing ones are made when needed. */
export const countersAgree = (repair: boolean) =>
  Effect.gen(function* () {
    const counters = yield* QuotaCounters
    const { found } = yield* Findings
    return yield* everyProject(({ project }) =>
      Effect.gen(function* () {
        const stays = yield* difference(project)
        if (stays === undefined) return
        if (repair) yield* Effect.ignore(counters.rebuild(project))
        const repaired = repair && (yield* difference(project)) === undefined
        yield* found(
          "counters_differ",
          {
            project,
            counted_bytes: stays.told.usedBytes,
            used_bytes: stays.usage.usedBytes,
            counted_limit: stays.told.limitBytes,
            limit_bytes: stays.usage.limitBytes,
            counted_version: stays.told.version,
            version: stays.usage.version,
          },
          repaired,
        )
      }),
    )
  })
