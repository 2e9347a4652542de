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

  counterOf(status: number): Metric.Metric.Counter<number> {
    const known = this.#byStatus.get(status)
    if (known !== undefined) return known
    const counter = labelled(requests, { ...this.#labels, status: String(status) }).register()
    this.#byStatus.set(status, counter)
    return counter
  }

  answered(status: number, seconds: number): void {
    this.counterOf(status).unsafeUpdate(1, [])
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

/**
 * Exports the answers a route may give, from the start, as 0: a series that begins with 1 shows no increase. Of its
 * errors only those of the node; there would be hundreds of series of the callers' otherwise.
 */
export const expectAnswers = (route: string, method: string, successes: Iterable<number>): void => {
  for (const status of [...successes, 500, 503]) metricsOf(route, method).counterOf(status)
}

/** Counts and times a request of this route, once its answer has ended or its connection is gone. */
export const observeRequest = (route: string, req: IncomingMessage, res: ServerResponse): void => {
  const begun = performance.now()
  const method = req.method !== undefined && methods.has(req.method) ? req.method : "other"
  res.once("close", () => {
    metricsOf(route, method).answered(res.headersSent ? res.statusCode : 499, (performance.now() - begun) / 1000)
  })
}
