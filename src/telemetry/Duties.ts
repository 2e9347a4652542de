import { Clock, Effect, MetricKey } from "effect"
import { labelled } from "./labelled.ts"

const lastSuccess = MetricKey.gauge("artifact_duty_last_success_timestamp_seconds", {
  description: "When a background duty last did its work on this node, in Unix time; 0: not yet.",
})

/** `sweep` and `reconcile` are done for a project when it needs them, all others whether or not there is work. */
const duties = [
  "projects",
  "sweep",
  "reconcile",
  "orphans",
  "watermark",
  "removals",
  "relay",
  "prune_events",
  "prune_tokens",
  "prune_claims",
  "prune_messages",
] as const
export type Duty = (typeof duties)[number]

const instruments = Object.fromEntries(duties.map((duty) => [duty, labelled(lastSuccess, { duty })]))
// Each is there from the start.
for (const instrument of Object.values(instruments)) instrument.unsafeUpdate(0, [])

/** A run of the duty ended well: the node that did it says when. */
export const dutyDone = (duty: Duty): Effect.Effect<void> =>
  Effect.map(Clock.currentTimeMillis, (now) => instruments[duty]?.unsafeUpdate(now / 1000, []))
