import { Metric } from "effect"

/** How often the event stream was found ahead of Postgres, and how often behind it. */
export const restores = Metric.counter("artifact_event_relay_restores_total", {
  description: "How often the event stream was found ahead of Postgres, which must have been restored.",
  incremental: true,
}).register()
export const refills = Metric.counter("artifact_event_relay_refills_total", {
  description: "How often the event stream was found to have lost entries and was refilled.",
  incremental: true,
}).register()
