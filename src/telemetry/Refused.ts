import { type Metric, MetricKey } from "effect"
import { labelled } from "./labelled.ts"

const refusals = MetricKey.counter("artifact_refusals_total", {
  description: "Requests refused, by the code of the answer.",
  incremental: true,
})
const byCode = new Map<string, Metric.Metric.Counter<number>>()

/** Counts an answer that is an error. Codes are those of the API, so there are few. */
export const refused = (code: string): void => {
  let counter = byCode.get(code)
  if (counter === undefined) {
    counter = labelled(refusals, { code })
    byCode.set(code, counter)
  }
  counter.unsafeUpdate(1, [])
}
