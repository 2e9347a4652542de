import { Metric } from "effect"

const waiting = Metric.gauge("artifact_steps_waiting", {
  description: "Steps of requests that wait for their project's turn on this node.",
}).register()

/** One more that waits, or one less. */
export const stepsWaiting = (by: 1 | -1): void => waiting.unsafeModify(by, [])
