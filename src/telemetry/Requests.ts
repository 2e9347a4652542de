import { type Metric, MetricKey } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { secondBuckets } from "./buckets.ts"
import { labelled } from "./labelled.ts"

const requests = MetricKey.counter("artifact_http_requests_total", {
  description: "Requests answered, by the template of their route; status 499: the client left before an answer.",
  incremental: true,
})
const durations = MetricKey.histogram(
  "artifact_http_request_duration_seconds",
  secondBuckets,
  "From a request's head to the end of its answer.",
)

const methods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])

/** The instruments of one route and method: looked up by plain keys, since this is on the way of every request. */
class RouteMetrics {
  readonly #labels: { readonly route: string; readonly method: string }
  readonly #duration: Metric.Metric.Histogram<number>
  readonly #byStatus = new Map<number, Metric.Metric.Counter<number>>()

  constructor(route: string, method: string) {
    this.#labels = { route, method }
    this.#duration = labelled(durations, this.#labels)
  }

  answered(status: number, seconds: number): void {
    let counter = this.#byStatus.get(status)
    if (counter === undefined) {
      counter = labelled(requests, { ...this.#labels, status: String(status) })
      this.#byStatus.set(status, counter)
    }
    counter.unsafeUpdate(1, [])
    this.#duration.unsafeUpdate(seconds, [])
  }
}

const byRoute = new Map<string, Map<string, RouteMetrics>>()

const metricsOf = (route: string, method: string): RouteMetrics => {
  let byMethod = byRoute.get(route)
  if (byMethod === undefined) byRoute.set(route, (byMethod = new Map()))
  let found = byMethod.get(method)
  if (found === undefined) byMethod.set(method, (found = new RouteMetrics(route, method)))
  return found
}

/** Counts and times a request of this route, once its answer has ended or its connection is gone. */
export const observeRequest = (route: string, req: IncomingMessage, res: ServerResponse): void => {
  const begun = performance.now()
  const method = req.method !== undefined && methods.has(req.method) ? req.method : "other"
  res.once("close", () => {
    metricsOf(route, method).answered(res.headersSent ? res.statusCode : 499, (performance.now() - begun) / 1000)
  })
}
