import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { stringify } from "yaml"
import { fromDebian } from "../support/debian.ts"
import { privateDir, run } from "../support/processes.ts"

export interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

export interface Groups {
  readonly groups: ReadonlyArray<{ readonly name: string; readonly rules: ReadonlyArray<Rule> }>
}

/** What is scraped, and which alerts stand at a time. */
export interface Scene {
  readonly name: string
  /** Minutes between two samples, and between two evaluations. */
  readonly minutes: number
  /** Samples by series as promtool writes them: `0+3x60` is 0, 3, 6 … 180. */
  readonly series: Readonly<Record<string, string>>
  readonly at: string
  readonly alert: string
  /** The labels of each alert that fires, apart from those of the rule; none: it is silent. */
  readonly fires: ReadonlyArray<Readonly<Record<string, string>>>
}

export const findPromtool = (): Promise<string> => fromDebian("promtool", "promtool", "prometheus")

const inFolder = async <A>(use: (write: (file: string, content: unknown) => string) => Promise<A>): Promise<A> => {
  const dir = privateDir("promtool")
  try {
    return await use((file, content) => {
      const path = join(dir.path, file)
      writeFileSync(path, stringify(content))
      return path
    })
  } finally {
    dir.remove()
  }
}

/** Loads the rules as Prometheus does, templates of annotations included. Rejects with what is wrong. */
export const checkRules = (promtool: string, rules: Groups): Promise<string> =>
  inFolder((write) => run(promtool, ["check", "rules", write("rules.yaml", rules)]))

const severityOf = ({ groups }: Groups, alert: string) =>
  groups.flatMap(({ rules }) => rules).find((rule) => rule.alert === alert)?.labels?.["severity"] ?? "missing"

/**
 * Runs over each scene the group of rules that has its alert. Rejects with what differs. Annotations are left out: what
 * promtool compares is their whole text.
 */
export const testRules = (promtool: string, rules: Groups, scenes: ReadonlyArray<Scene>): Promise<string> =>
  inFolder((write) => {
    const testOf = ({ alert, at, fires, minutes, name, series }: Scene) => ({
      name: `${alert}: ${name}`,
      interval: `${minutes}m`,
      input_series: Object.entries(series).map(([series, values]) => ({ series, values })),
      alert_rule_test: [
        {
          eval_time: at,
          alertname: alert,
          exp_alerts: fires.map((labels) => ({ exp_labels: { ...labels, severity: severityOf(rules, alert) } })),
        },
      ],
    })
    const files = rules.groups.flatMap(({ name, rules }) => {
      const bare = { name, rules: rules.map((rule) => ({ ...rule, annotations: undefined })) }
      const rule_files = [write(`${name}.yaml`, { groups: [bare] })]
      const own = scenes.filter((scene) => rules.some(({ alert }) => alert === scene.alert))
      return [...Map.groupBy(own, ({ minutes }) => minutes)].map(([minutes, scenes]) =>
        write(`${name}-${minutes}.yaml`, {
          rule_files,
          evaluation_interval: `${minutes}m`,
          tests: scenes.map(testOf),
        }),
      )
    })
    return run(promtool, ["test", "rules", ...files])
  })
