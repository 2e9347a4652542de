import * as fc from "fast-check"
import { expect, it } from "vitest"
import { plans, type Plan } from "./plan.ts"

const range = {
  clients: [4, 5],
  steps: [8, 12],
  faults: [1, 2],
  kinds: ["kill", "freeze"],
  lasting: [300, 2000],
  hastened: [true],
} as const

it("plans are long, shrink to what is needed, and come again by seed and path", () => {
  const failing = ({ clients, faults }: Plan) =>
    faults.some(({ what }) => what === "freeze") &&
    clients.some(({ steps }) => steps.some((step) => step.do === "end" && step.when === "midway"))
  const property = fc.property(plans(range), (plan) => !failing(plan))
  const { counterexample, counterexamplePath, failed, seed } = fc.check(property)
  expect(failed).toBe(true)
  const smallest = {
    clients: [
      {
        project: 0,
        pod: 0,
        visibility: "shared",
        edit: false,
        steps: [{ do: "end", how: "takeOver", when: "midway", size: 70_000 }],
      },
    ],
    faults: [{ after: 0, what: "freeze", pod: 0, ms: 300 }],
    hastened: true,
  }
  expect(counterexample).toEqual([smallest])
  const [again] = fc.sample(plans(range), { numRuns: 1, seed, path: counterexamplePath ?? "" })
  expect(again).toEqual(smallest)
  for (const { clients, faults } of fc.sample(plans(range), 20)) {
    expect(clients.length).toBeGreaterThanOrEqual(4)
    expect(faults.length).toBeGreaterThanOrEqual(1)
    for (const { steps } of clients) expect(steps.length).toBeGreaterThanOrEqual(8)
  }
})
