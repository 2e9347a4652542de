import * as ClusterMetrics from "@effect/cluster/ClusterMetrics"
import { Metric, MetricState } from "effect"
import { lateBuckets } from "./buckets.ts"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

/** How often the event loop is asked how late it is. */
const resolutionMillis = 20
const delay = Metric.histogram(
  "artifact_event_loop_delay_seconds",
  lateBuckets,
  "How late timers fire, asked fifty times a second.",
).register()

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

/** Sets a timer over and over, and says how late each fires. Returns how to stop. */
const watchEventLoop = (): (() => void) => {
  let timer: NodeJS.Timeout
  const next = (): void => {
    const due = performance.now() + resolutionMillis
    timer = setTimeout(() => {
      // Node rounds to whole milliseconds, so that a timer may fire a little early.
      delay.unsafeUpdate(Math.max(0, performance.now() - due) / 1000, [])
      next()
    }, resolutionMillis).unref()
  }
  next()
  return () => clearTimeout(timer)
}

/** Watches the event loop from now on; `refresh` brings the rest of this file up to date. */
export const watchRuntime = (): { readonly refresh: () => void; readonly stop: () => void } => {
  const stop = watchEventLoop()
  let cpuSeconds = 0
  started.unsafeUpdate(Math.round(performance.timeOrigin) / 1000, [])
  return {
    refresh: () => {
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
    stop,
  }
}
