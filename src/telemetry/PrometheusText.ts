import { type MetricKey, type MetricPair, MetricState, Option } from "effect"

/** Ours; what libraries count for themselves stays theirs. */
const ours = /^(?:artifact|process|nodejs)_/

const escapeHelp = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")
const escapeLabel = (text: string) => escapeHelp(text).replaceAll('"', '\\"')

const labels = (key: MetricKey.MetricKey.Untyped, le?: string): string => {
  const pairs = [...key.tags].map((tag) => `${tag.key}="${escapeLabel(tag.value)}"`)
  if (le !== undefined) pairs.push(`le="${le}"`)
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`
}

const number = (value: number | bigint): string =>
  value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value)

const series = ({ metricKey: key, metricState: state }: MetricPair.MetricPair.Untyped): ReadonlyArray<string> => {
  if (MetricState.isHistogramState(state))
    return [
      ...[...state.buckets]
        .filter(([bound]) => Number.isFinite(bound))
        .map(([bound, count]) => `${key.name}_bucket${labels(key, number(bound))} ${count}`),
      `${key.name}_bucket${labels(key, "+Inf")} ${state.count}`,
      `${key.name}_sum${labels(key)} ${number(state.sum)}`,
      `${key.name}_count${labels(key)} ${state.count}`,
    ]
  if (MetricState.isCounterState(state)) return [`${key.name}${labels(key)} ${number(state.count)}`]
  if (MetricState.isGaugeState(state)) return [`${key.name}${labels(key)} ${number(state.value)}`]
  return []
}

const typeOf = (state: MetricState.MetricState.Untyped): string =>
  MetricState.isHistogramState(state) ? "histogram" : MetricState.isCounterState(state) ? "counter" : "gauge"

/** A snapshot of metrics in Prometheus' text format 0.0.4: histograms, counters and gauges, by name. */
export const prometheusText = (snapshot: ReadonlyArray<MetricPair.MetricPair.Untyped>): string => {
  const byName = new Map<string, Array<MetricPair.MetricPair.Untyped>>()
  for (const pair of snapshot) {
    if (!ours.test(pair.metricKey.name)) continue
    const family = byName.get(pair.metricKey.name)
    if (family === undefined) byName.set(pair.metricKey.name, [pair])
    else family.push(pair)
  }
  const lines: Array<string> = []
  for (const [name, family] of [...byName].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const [first] = family
    if (first === undefined) continue
    const help = Option.getOrUndefined(first.metricKey.description)
    if (help !== undefined) lines.push(`# HELP ${name} ${escapeHelp(help)}`)
    lines.push(`# TYPE ${name} ${typeOf(first.metricState)}`, ...family.flatMap(series))
  }
  return `${lines.join("\n")}\n`
}
