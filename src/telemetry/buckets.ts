import { MetricBoundaries } from "effect"

/** Of durations in seconds: from what memory answers to what callers give up on. */
export const secondBuckets = MetricBoundaries.fromIterable([
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
])

/** Of how late the event loop is, in seconds: below a millisecond nobody can tell, above a second probes fail. */
export const lateBuckets = MetricBoundaries.fromIterable([
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
])
