import * as ClusterCron from "@effect/cluster/ClusterCron"
import { Array, Cron, Effect, Layer } from "effect"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import type { SettingsShape } from "../Config.ts"
import { Project } from "./ProjectProtocol.ts"
import { sweepStore } from "./Orphans.ts"
import { pruneClaims, pruneEvents, pruneMessages, pruneTokens } from "./Pruning.ts"
import { type Duty, dutyDone } from "../telemetry/Duties.ts"
import { traced } from "../telemetry/Spans.ts"
import { markStore } from "./Watermark.ts"

/** Projects told of their work by one tick. */
const tickLimit = 500
/** Objects of the store listed in one run, which also ends after a third of the time between two. */
const listingMost = 2_000_000
/** Seconds between two runs of a pruning duty. */
const pruneSeconds = 300

/** Every so many seconds, minutes or hours, whichever the number amounts to. */
export const cronEvery = (seconds: number): Cron.Cron => {
  const steps = (count: number, step: number) => Array.range(0, count - 1).filter((value) => value % step === 0)
  const minutes = Math.min(60, Math.round(seconds / 60))
  return Cron.make({
    seconds: seconds < 60 ? steps(60, seconds) : [0],
    minutes: seconds < 60 ? [] : minutes < 60 ? steps(60, minutes) : [0],
    hours: [],
    days: [],
    months: [],
    weekdays: [],
  })
}

/** Looks for projects with work and tells their actors; never waits for what they do. */
export const tellProjects = traced("Ticks.tellProjects")(function* (staleSeconds: number, run: string) {
  const project = yield* Project.client
  const due = yield* (yield* ProjectDuties).due({ staleSeconds, limit: tickLimit })
  yield* Effect.forEach(
    due,
    ({ project: handle, reconcile, sweep }) => {
      const actor = project(handle)
      return Effect.all(
        [
          sweep ? actor.Sweep({ run }, { discard: true }) : Effect.void,
          reconcile ? actor.Reconcile({ run }, { discard: true }) : Effect.void,
        ],
        { discard: true },
      ).pipe(Effect.timeout("5 seconds"), Effect.ignoreLogged)
    },
    { concurrency: 8, discard: true },
  )
  return due.length
})

/**
 * One duty, which no other one can hold up. A run that fails is logged by the engine under the duty's name, and the next
 * one comes all the same.
 */
const tick = <E, R>(duty: Duty, seconds: number, execute: Effect.Effect<unknown, E, R>) =>
  ClusterCron.make({
    name: duty,
    cron: cronEvery(seconds),
    execute: Effect.zipRight(execute, dutyDone(duty)),
    // What was missed while the whole cluster was away is done by the next run.
    skipIfOlderThan: "1 minute",
  })

export const layer = (
  settings: Pick<
    SettingsShape,
    | "sweepSeconds"
    | "abandonedAfterSeconds"
    | "orphanSweepSeconds"
    | "orphanAgeSeconds"
    | "orphanConfirmSeconds"
    | "eventRetentionSeconds"
    | "claimRetentionSeconds"
  >,
  pruneEvery = pruneSeconds,
) =>
  Layer.mergeAll(
    tick(
      "projects",
      settings.sweepSeconds,
      Effect.clockWith((clock) => clock.currentTimeMillis).pipe(
        Effect.flatMap((now) => tellProjects(settings.abandonedAfterSeconds, String(now))),
      ),
    ),
    tick(
      "orphans",
      settings.orphanSweepSeconds,
      sweepStore({
        ageSeconds: settings.orphanAgeSeconds,
        confirmSeconds: settings.orphanConfirmSeconds,
        budget: { objects: listingMost, seconds: Math.max(1, settings.orphanSweepSeconds / 3) },
      }),
    ),
    tick("watermark", settings.sweepSeconds, markStore()),
    tick("prune_events", pruneEvery, pruneEvents(settings.eventRetentionSeconds)),
    tick("prune_tokens", pruneEvery, pruneTokens),
    tick("prune_claims", pruneEvery, pruneClaims(settings.claimRetentionSeconds)),
    tick("prune_messages", pruneEvery, pruneMessages),
  )
