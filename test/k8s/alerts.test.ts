import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { orNotRun } from "../support/backends.ts"
import { scenes } from "./alertScenes.ts"
import { k8sDir } from "./kubectl.ts"
import { documentsOf } from "./overlays.ts"
import { checkRules, findPromtool, type Groups, type Rule, testRules } from "./promtool.ts"

const textOf = (file: string) => readFileSync(join(k8sDir, file), "utf8")
const rules: Groups = documentsOf(textOf("dashboards/alerts.yaml"))[0]?.spec
const all = rules.groups.flatMap((group) => group.rules)
const alerts = all.filter((rule): rule is Rule & { alert: string } => rule.alert !== undefined)

describe("the alerts", () => {
  it("each have a severity, a summary, and an address in the runbook that exists", () => {
    const headings = new Set([...textOf("README.md").matchAll(/^#+ (.+)$/gm)].map((match) => match[1]?.toLowerCase()))
    const runbook = "https://git.example.com/artifact-plane/k8s/README.md"
    for (const { alert, annotations, labels } of alerts) {
      expect(labels?.["severity"], alert).toMatch(/^(critical|warning|info)$/)
      expect(annotations?.["summary"], alert).toMatch(/[.?]$/)
      expect(annotations?.["runbook_url"], alert).toBe(`${runbook}#${alert.toLowerCase()}`)
      expect(headings, alert).toContain(alert.toLowerCase())
    }
  })

  it("watch an objective in two pairs of windows each, by multiples of its budget", () => {
    const pairs = { Fast: ["1h 14.4", "5m 14.4", "6h 6", "30m 6"], Slow: ["1d 3", "2h 3", "3d 1", "6h 1"] }
    const records = new Set(all.map(({ record }) => record))
    for (const [objective, metric] of [
      ["Publish", "namespace:artifact_publish_failed:ratio"],
      ["Events", "namespace:artifact_events_late:ratio"],
    ])
      for (const [speed, expected] of Object.entries(pairs)) {
        const { expr } = alerts.find(({ alert }) => alert === `ArtifactPlane${objective}Budget${speed}`) ?? { expr: "" }
        const found = [...expr.matchAll(/([\w:]+:ratio)(\w+) > ([\d.]+) \* 0\.001/g)]
        expect(found.map(([, , window, times]) => `${window} ${times}`)).toEqual(expected)
        for (const [, name, window] of found) {
          expect(name).toBe(metric)
          expect(records).toContain(`${name}${window}`)
        }
      }
  })

  it("each have a scene in which they stand, and one in which they do not", () => {
    const judged = (fires: boolean) =>
      new Set(scenes.filter((scene) => scene.fires.length > 0 === fires).map(({ alert }) => alert))
    for (const fires of [true, false])
      expect([...judged(fires)].toSorted()).toEqual(alerts.map(({ alert }) => alert).toSorted())
  })
})

const promtool = await orNotRun("promtool", findPromtool)

if (promtool !== null)
  describe("Prometheus, by promtool", () => {
    it("loads every rule and every template", async () => {
      expect(await checkRules(promtool, rules)).toContain(`SUCCESS: ${all.length} rules found`)
    })

    it("finds that each alert stands when it must, and only then", async () => {
      expect(await testRules(promtool, rules, scenes)).toContain("SUCCESS")
    }, 240_000)

    it("a scene that does not come true is a failure", async () => {
      const [first] = scenes
      if (first === undefined) return expect.fail("no scene")
      await expect(testRules(promtool, rules, [{ ...first, fires: [] }])).rejects.toThrow("FAILED")
    })
  })
