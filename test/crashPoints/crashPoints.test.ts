import { describe, expect, it } from "vitest"
import { faultStory } from "./scene.ts"
import { readSteps } from "./sites.ts"
import { productionOnly } from "./walks.ts"

describe("crash points", () => {
  it("every use of a service in the walks can be read as a step", () => {
    const { steps, unread } = readSteps()
    expect(unread).toEqual([])
    expect(steps.length).toBeGreaterThan(80)
  })

  it("each step has a case, fails and hangs, and everything agrees afterwards", { timeout: 360_000 }, async () => {
    const report = await faultStory("memory", undefined, { steps: "once", moments: ["before", "after"] })
    const tried = new Set(Object.values(report.passed).flat())
    const withoutCase = report.steps
      .filter(({ name }) => !tried.has(name) && !productionOnly.some((fn) => name.startsWith(`${fn}:`)))
      .map(({ name, place }) => `${place}: no walk of test/crashPoints/walks.ts comes by "${name}". Add one that does.`)
    expect(withoutCase).toEqual([])
    expect(report.sentences).toEqual([])
    expect(report.cases).toBeGreaterThan(300)
  })
})
