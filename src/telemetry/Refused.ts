import { type Metric, MetricKey } from "effect"
import { labelled } from "./labelled.ts"

const refusals = MetricKey.counter("artifact_refusals_total", {
  description: "Requests refused, by the code of the answer.",
  incremental: true,
})
const byCode = new Map<string, Metric.Metric.Counter<number>>()

const counterOf = (code: string): Metric.Metric.Counter<number> => {
  const known = byCode.get(code)
  if (known !== undefined) return known
  const counter = labelled(refusals, { code }).register()
  byCode.set(code, counter)
  return counter
}

/** Exports these codes as 0 until the first answer has one of them: a series that begins with 1 shows no increase. */
export const expectRefusals = (codes: ReadonlyArray<string>): void => codes.forEach(counterOf)

/** Counts an answer that is an error. Codes are those of the API, so there are few. */
export const refused = (code: string): void => counterOf(code).unsafeUpdate(1, [])
