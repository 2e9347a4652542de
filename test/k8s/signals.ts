import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { parser } from "@prometheus-io/lezer-promql"

const readme = readFileSync(resolve(import.meta.dirname, "../../README.md"), "utf8")
const table = readme.split("\n## Signals\n")[1]?.split("\n## ")[0] ?? ""

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
  "kube_horizontalpodautoscaler_status_condition",
  "kube_horizontalpodautoscaler_status_current_replicas",
  "kube_pod_container_status_restarts_total",
])

/** Labels that scraping adds. */
const scraped = new Set(["namespace", "pod", "container", "instance", "horizontalpodautoscaler", "condition", "status"])

/**
 * What is wrong with a PromQL expression: its syntax, a metric that nobody exports and that is none of `records`, a label
 * that metric does not have.
 */
export const faultsOfQuery = (expression: string, records: ReadonlySet<string> = new Set()): ReadonlyArray<string> => {
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
      .filter((metric) => !(metric in signals) && !clusterMetrics.has(metric) && !records.has(metric))
      .map((metric) => `nobody exports ${metric}: ${expression}`),
    ...[...labels]
      .filter((label) => !known.has(label) && !scraped.has(label))
      .map((label) => `no label ${label}: ${expression}`),
  ]
}
