import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { parser } from "@prometheus-io/lezer-promql"

/** The table of signals as agreed, for as long as the README has none. */
const agreed = `
| \`artifact_http_requests_total{route,method,status}\` | |
| \`artifact_http_request_duration_seconds{route,method}\` | histogram |
| \`artifact_refusals_total{code}\` | |
| \`artifact_open_uploads\`, \`artifact_open_downloads\`, \`artifact_open_event_streams\` | |
| \`artifact_bytes_received_total\`, \`artifact_bytes_sent_total\` | |
| \`artifact_dependency_duration_seconds{dependency,operation}\` | histogram |
| \`artifact_dependency_errors_total{dependency}\` | |
| \`artifact_outbox_lag_rows\`, \`artifact_outbox_lag_seconds\` | |
| \`artifact_removals_waiting\`, \`artifact_removals_parked\` | |
| \`artifact_actors{type}\` | |
| \`artifact_event_loop_delay_seconds{quantile}\` | |
| \`artifact_event_relay_refills_total\`, \`artifact_event_relay_restores_total\` | |
`

const readme = readFileSync(resolve(import.meta.dirname, "../../README.md"), "utf8")
const table = readme.split("\n## Signals\n")[1]?.split("\n## ")[0] ?? agreed

/** The node's metrics as the README's table has them, each with the labels it may carry. */
export const signals: Readonly<Record<string, ReadonlyArray<string>>> = Object.fromEntries(
  [...table.matchAll(/^\| (`[^|]*) \|([^|]*)\|/gm)].flatMap(([, names = "", meaning = ""]) =>
    [...names.matchAll(/`(\w+)(?:\{([\w,]+)\})?`/g)].flatMap(([, name = "", list]) => {
      const labels = list?.split(",") ?? []
      return meaning.trim().startsWith("histogram")
        ? [
            [`${name}_bucket`, [...labels, "le"]],
            [`${name}_sum`, labels],
            [`${name}_count`, labels],
          ]
        : [[name, labels]]
    }),
  ),
)

/** What the cluster itself tells, by kubelet and kube-state-metrics. */
export const clusterMetrics = new Set([
  "container_cpu_usage_seconds_total",
  "container_memory_working_set_bytes",
  "kube_horizontalpodautoscaler_spec_max_replicas",
  "kube_horizontalpodautoscaler_status_current_replicas",
  "kube_pod_container_status_restarts_total",
])

/** Labels that scraping adds. */
const scraped = new Set(["namespace", "pod", "container", "instance", "horizontalpodautoscaler"])

/** What is wrong with a PromQL expression: its syntax, a metric nobody exports, a label that metric does not have. */
export const faultsOfQuery = (expression: string): ReadonlyArray<string> => {
  const text = expression.replaceAll("$__rate_interval", "5m")
  const metrics = new Set<string>()
  const labels = new Set<string>()
  const faults: Array<string> = []
  parser.parse(text).iterate({
    enter: ({ from, name, node, to, type }) => {
      const word = text.slice(from, to)
      if (type.isError) faults.push(`syntax at ${from}: ${expression}`)
      if (name === "Identifier" && node.parent?.name === "VectorSelector") metrics.add(word)
      if (name === "LabelName") labels.add(word)
    },
  })
  const known = new Set([...metrics].flatMap((metric) => signals[metric] ?? []))
  return [
    ...faults,
    ...(metrics.size === 0 ? [`no metric: ${expression}`] : []),
    ...[...metrics]
      .filter((metric) => !(metric in signals) && !clusterMetrics.has(metric))
      .map((metric) => `nobody exports ${metric}: ${expression}`),
    ...[...labels]
      .filter((label) => !known.has(label) && !scraped.has(label))
      .map((label) => `no label ${label}: ${expression}`),
  ]
}
