import { Effect, Layer, Metric, Schema } from "effect"
import { createServer } from "node:http"
import { Settings } from "../Config.ts"
import { prometheusText } from "./PrometheusText.ts"
import { watchRuntime } from "./Runtime.ts"

/** The port for metrics cannot be had. One clear sentence. */
export class MetricsPortUnusable extends Schema.TaggedError<MetricsPortUnusable>()("MetricsPortUnusable", {
  message: Schema.String,
}) {}

/**
 * `GET /metrics` on a port of its own, which callers of the API need not reach. It answers from memory alone, also
 * while everything the node depends on is away, and until the node has drained.
 */
export const layer = Layer.scopedDiscard(
  Effect.gen(function* () {
    const { host, metricsPort } = yield* Settings
    const runtime = yield* Effect.acquireRelease(Effect.sync(watchRuntime), ({ stop }) => Effect.sync(stop))
    const server = createServer((req, res) => {
      if (req.url !== "/metrics" || (req.method !== "GET" && req.method !== "HEAD"))
        return void res.writeHead(404).end()
      runtime.refresh()
      const text = prometheusText(Metric.unsafeSnapshot())
      res.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" })
      res.end(req.method === "HEAD" ? undefined : text)
    })
    yield* Effect.acquireRelease(
      Effect.async<void, MetricsPortUnusable>((resume) => {
        server.once("error", () =>
          resume(
            new MetricsPortUnusable({
              message: `METRICS_PORT ${metricsPort} cannot be listened on: another process uses it, or HOST is not this machine's. With METRICS_PORT=0 the system chooses a free one.`,
            }),
          ),
        )
        server.listen(metricsPort, host, () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        }),
    )
    const address = server.address()
    if (metricsPort === 0 && typeof address === "object" && address !== null)
      yield* Effect.logDebug(`Metrics are at http://${host}:${address.port}/metrics.`)
  }),
)
