import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { k8sDir } from "./kubectl.ts"
import { documentsOf } from "./overlays.ts"
import { faultsOf } from "./schemas.ts"
import { clusterMetrics, faultsOfQuery, signals } from "./signals.ts"

const textOf = (file: string) => readFileSync(join(k8sDir, file), "utf8")

const monitor = documentsOf(textOf("dashboards/podmonitor.yaml"))
const rules = documentsOf(textOf("dashboards/alerts.yaml"))
const alerts: ReadonlyArray<{ readonly alert: string; readonly expr: string; readonly annotations: object }> =
  rules[0]?.spec.groups.flatMap((group: { rules: object }) => group.rules)
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

  it("every query is PromQL over metrics and labels that exist", () => {
    expect(alerts.length).toBeGreaterThan(10)
    expect(shown.length).toBeGreaterThan(20)
    expect([...alerts.map(({ expr }) => expr), ...shown].flatMap(faultsOfQuery)).toEqual([])
  })

  it("a metric nobody exports, an unknown label and a slip of syntax are faults", () => {
    expect(faultsOfQuery("max(artifact_outbox_lag_row) > 1")).toEqual([expect.stringContaining("nobody exports")])
    expect(faultsOfQuery("sum by (kode) (artifact_refusals_total)")).toEqual([expect.stringContaining("no label kode")])
    expect(faultsOfQuery("sum(rate(artifact_bytes_sent_total[5m])")).toEqual([expect.stringContaining("syntax")])
  })

  it("the dashboard shows every signal", () => {
    const unseen = Object.keys(signals).filter((metric) => /^artifact_.*(?<!_sum|_count)$/.test(metric))
    expect(unseen.length).toBeGreaterThan(15)
    expect([...unseen, ...clusterMetrics].filter((metric) => !shown.some((expr) => expr.includes(metric)))).toEqual([])
  })

  it("the runbook has a line for every alert, and speaks of no other", () => {
    const named = [...textOf("README.md").matchAll(/^\| `(ArtifactPlane\w+)`/gm)].map((match) => match[1])
    expect(named.toSorted()).toEqual(alerts.map(({ alert }) => alert).toSorted())
  })

  it("the runbook names only metrics that exist", () => {
    const named = textOf("README.md").matchAll(/`(artifact_\w+)/g)
    const bases = new Set(Object.keys(signals).map((metric) => metric.replace(/_(bucket|sum|count)$/, "")))
    expect([...named].map((match) => match[1] ?? "").filter((metric) => !bases.has(metric))).toEqual([])
  })
})
