import * as ClusterMetrics from "@effect/cluster/ClusterMetrics"
import { Metric, MetricState } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const resolutionMillis = 10
const quantiles = [0.5, 0.9, 0.99, 1] as const
const delay = gauge("artifact_event_loop_delay_seconds", "How late timers fire, since the last scrape.")
const delays = quantiles.map((quantile) => [quantile, Metric.tagged(delay, "quantile", String(quantile))] as const)

const cpu = Metric.counter("process_cpu_seconds_total", {
  description: "User and system CPU time of the process.",
  incremental: true,
})
const resident = gauge("process_resident_memory_bytes", "Resident memory of the process.")
const heap = gauge("nodejs_heap_used_bytes", "Used JavaScript heap.")
const external = gauge(
  "nodejs_external_memory_bytes",
  "Memory outside the heap that JavaScript objects hold, buffers included.",
)
const started = gauge("process_start_time_seconds", "When the process started, since the epoch.")

const actors = gauge("artifact_actors", "Actors that live on this node, by their type.")
const actorsOf = new Map<string, Metric.Metric.Gauge<number>>()
const setActors = (type: string, count: number) => {
  let known = actorsOf.get(type)
  if (known === undefined) actorsOf.set(type, (known = Metric.tagged(actors, "type", type)))
  known.unsafeUpdate(count, [])
}

/** Those of the cluster's own gauges, which count entities by type and singletons in all. */
const refreshActors = (): void => {
  setActors("singleton", Number(ClusterMetrics.singletons.unsafeValue([]).value))
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    if (metricKey.name !== "effect_cluster_entities" || !MetricState.isGaugeState(metricState)) continue
    const type = [...metricKey.tags].find(({ key }) => key === "type")?.value
    if (type !== undefined) setActors(type, Number(metricState.value))
  }
}

/** Watches the event loop from now on; the function returned brings all of this file up to date. */
export const watchRuntime = (): { readonly refresh: () => void; readonly stop: () => void } => {
  const loop = monitorEventLoopDelay({ resolution: resolutionMillis })
  loop.enable()
  let cpuSeconds = 0
  started.unsafeUpdate(Math.round(performance.timeOrigin) / 1000, [])
  return {
    refresh: () => {
      for (const [quantile, instrument] of delays) {
        const nanos = quantile === 1 ? loop.max : loop.percentile(quantile * 100)
        // The histogram holds the time between two timers, so the interval itself is no delay.
        instrument.unsafeUpdate(Math.max(0, nanos / 1e9 - resolutionMillis / 1000), [])
      }
      loop.reset()
      const { system, user } = process.cpuUsage()
      const now = (user + system) / 1e6
      cpu.unsafeUpdate(now - cpuSeconds, [])
      cpuSeconds = now
      const memory = process.memoryUsage()
      resident.unsafeUpdate(memory.rss, [])
      heap.unsafeUpdate(memory.heapUsed, [])
      external.unsafeUpdate(memory.external, [])
      refreshActors()
    },
    stop: () => loop.disable(),
  }
}
