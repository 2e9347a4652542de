import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import { k8sDir } from "./kubectl.ts"
import { documentsOf } from "./overlays.ts"
import { faultsOf } from "./schemas.ts"
import type { Rule } from "./promtool.ts"
import { clusterMetrics, faultsOfQuery, signals } from "./signals.ts"

const textOf = (file: string) => readFileSync(join(k8sDir, file), "utf8")

const monitor = documentsOf(textOf("dashboards/podmonitor.yaml"))
const rules = documentsOf(textOf("dashboards/alerts.yaml"))
const own: ReadonlyArray<Rule> = rules[0]?.spec.groups.flatMap((group: { rules: object }) => group.rules)
const alerts = own.flatMap(({ alert }) => alert ?? [])
const records = new Set(own.flatMap(({ record }) => record ?? []))
const dashboard: {
  readonly panels: ReadonlyArray<{
    readonly type: string
    readonly title: string
    readonly targets?: ReadonlyArray<{ readonly expr: string }>
  }>
} = JSON.parse(textOf("dashboards/artifact-plane.json"))
const shown = dashboard.panels.flatMap(({ targets }) => (targets ?? []).map(({ expr }) => expr))

describe("signals", () => {
  it("the alerts and the monitor are valid by the operator's schemas", async () => {
    expect((await Promise.all([...monitor, ...rules].map(faultsOf))).flat()).toEqual([])
    const misspelt = structuredClone(rules[0]) as never as { spec: { groups: Array<{ rules: Array<object> }> } }
    misspelt.spec.groups[0]?.rules.push({ alert: "X", expr: "1", annotation: {} })
    expect(await faultsOf(misspelt as never)).toEqual([expect.stringContaining("/annotation is no field")])
  })

  it("the monitor scrapes the node's pods at the port they name", () => {
    expect(monitor[0]?.spec).toMatchObject({
      selector: {
        matchLabels: { "app.kubernetes.io/name": "artifact-plane", "app.kubernetes.io/component": "node" },
      },
      podMetricsEndpoints: [{ port: "metrics", path: "/metrics" }],
    })
  })

  it("the adapter gives the autoscaler the metric it asks for, by pod", () => {
    const { rules } = parse(textOf("dashboards/adapter.yaml"))
    const hpa = documentsOf(textOf("base/autoscaling.yaml"))[0]?.spec.metrics
    const wanted = hpa.flatMap(({ pods }: { pods?: { metric: { name: string } } }) => pods?.metric.name ?? [])
    expect(wanted).toEqual(["artifact_open_uploads"])
    expect(rules.default).toBe(false)
    expect(
      rules.custom.map(({ name, resources, seriesQuery }: Record<string, any>) => [
        seriesQuery.split("{")[0],
        resources?.overrides,
        // Without a rule of its own a series keeps its name.
        name,
      ]),
    ).toEqual(
      wanted.map((metric: string) => [
        metric,
        { namespace: { resource: "namespace" }, pod: { resource: "pod" } },
        undefined,
      ]),
    )
    for (const { metricsQuery, seriesQuery } of rules.custom) {
      const filled = metricsQuery
        .replaceAll("<<.Series>>", seriesQuery.split("{")[0])
        .replaceAll("<<.LabelMatchers>>", 'namespace="plane"')
        .replaceAll("<<.GroupBy>>", "pod")
      expect([filled, seriesQuery].flatMap((query) => faultsOfQuery(query))).toEqual([])
    }
  })

  it("every query is PromQL over metrics and labels that exist", () => {
    expect(alerts.length).toBeGreaterThan(10)
    expect(shown.length).toBeGreaterThan(20)
    const queries = [...own.map(({ expr }) => expr), ...shown]
    expect(queries.flatMap((query) => faultsOfQuery(query, records))).toEqual([])
  })

  it("a metric nobody exports or records, an unknown label and a slip of syntax are faults", () => {
    expect(faultsOfQuery("max(namespace:artifact_events_late:ratio9h)", records)).toEqual([
      expect.stringContaining("nobody exports"),
    ])
    expect(faultsOfQuery("max(artifact_outbox_lag_row) > 1")).toEqual([expect.stringContaining("nobody exports")])
    expect(faultsOfQuery("sum by (kode) (artifact_refusals_total)")).toEqual([expect.stringContaining("no label kode")])
    expect(faultsOfQuery("sum(rate(artifact_bytes_sent_total[5m])")).toEqual([expect.stringContaining("syntax")])
  })

  it("the dashboard shows every signal", () => {
    const unseen = Object.keys(signals).filter((metric) => /^artifact_.*(?<!_sum|_count)$/.test(metric))
    expect(unseen.length).toBeGreaterThan(15)
    expect([...unseen, ...clusterMetrics].filter((metric) => !shown.some((expr) => expr.includes(metric)))).toEqual([])
  })

  it("the runbook has a heading for every alert, and speaks of no other", () => {
    const named = [...textOf("README.md").matchAll(/^### (ArtifactPlane\w+)$/gm)].map((match) => match[1])
    expect(named).toEqual(alerts)
    const told = [...textOf("README.md").matchAll(/\b(ArtifactPlane\w+)/g)].map((match) => match[1] ?? "")
    expect(told.filter((name) => !alerts.includes(name))).toEqual([])
  })

  it("the runbook names only metrics that exist", () => {
    const named = textOf("README.md").matchAll(/`(artifact_\w+)/g)
    const bases = new Set(Object.keys(signals).map((metric) => metric.replace(/_(bucket|sum|count)$/, "")))
    expect([...named].map((match) => match[1] ?? "").filter((metric) => !bases.has(metric))).toEqual([])
  })
})
