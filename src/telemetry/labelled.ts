import { Metric, MetricKey, type MetricKeyType, MetricLabel } from "effect"

/**
 * The instrument of one set of labels, with its place in the registry found once. `Metric.tagged` looks it up at each
 * update, which costs microseconds; this costs nanoseconds.
 */
export const labelled = <Type extends MetricKeyType.MetricKeyType<any, any>>(
  key: MetricKey.MetricKey<Type>,
  labels: Readonly<Record<string, string>>,
): ReturnType<typeof Metric.fromMetricKey<Type>> =>
  Metric.fromMetricKey(
    MetricKey.taggedWithLabels(
      key,
      Object.entries(labels).map(([name, value]) => MetricLabel.make(name, value)),
    ),
  )
