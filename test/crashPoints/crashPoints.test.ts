import { describe, expect, inject, it } from "vitest"
import type { Report } from "./run.ts"
import { faultStory, killStory } from "./scene.ts"
import { readSteps } from "./sites.ts"
import { productionOnly } from "./walks.ts"

const postgresUrl = inject("postgresUrl")
const redisUrl = inject("redisUrl")
const servers = postgresUrl === null || redisUrl === null ? undefined : { postgresUrl, redisUrl }

const once = { steps: "once", moments: ["before", "after"] } as const
const seed = Number(process.env["CRASH_SEED"] ?? Date.now() % 1_000_000_000)

/** Sentences about steps that no walk came by, but for those of these functions. */
const withoutCase = ({ passed, steps }: Report, except: ReadonlyArray<string>) => {
  const tried = new Set(Object.values(passed).flat())
  return steps
    .filter(({ name }) => !tried.has(name) && !except.some((fn) => name.startsWith(`${fn}:`)))
    .map(({ name, place }) => `${place}: no walk of test/crashPoints/walks/ comes by "${name}". Add one that does.`)
}

describe("crash points", () => {
  it("every use of a service in the walks can be read as a step", () => {
    const { steps, unread } = readSteps()
    expect(unread).toEqual([])
    expect(steps.length).toBeGreaterThan(80)
    for (const fn of productionOnly)
      expect(
        steps.some(({ name }) => name.startsWith(`${fn}:`)),
        fn,
      ).toBe(true)
  })
})

// Most of the time they wait for reservations to expire, so they do that together.
describe.concurrent("crash points", { timeout: 480_000 }, () => {
  console.log(`crash points: CRASH_SEED=${seed}`)

  it("memory: each step has a case, fails and hangs, and everything agrees afterwards", async () => {
    const report = await faultStory("memory", undefined, once)
    expect(withoutCase(report, productionOnly)).toEqual([])
    expect(report.sentences).toEqual([])
    expect(report.cases).toBeGreaterThan(300)
  })

  it("embedded: processes die, and everything agrees afterwards", async () => {
    const report = await killStory("embedded", undefined, once, { sample: { seed, most: 4 } })
    expect(report.sentences, `with CRASH_SEED=${seed}`).toEqual([])
    expect(report.cases).toBe(4)
  })

  if (servers === undefined) return

  it("production: each step has a case, some fail and hang, and everything agrees afterwards", async () => {
    const report = await faultStory("production", servers, once, { sample: { seed, most: 120 } })
    expect(withoutCase(report, [])).toEqual([])
    expect(report.sentences, `with CRASH_SEED=${seed}`).toEqual([])
    expect(report.cases).toBe(120)
  })

  it("production: processes die, and everything agrees afterwards", async () => {
    const report = await killStory("production", servers, once, { sample: { seed, most: 8 } })
    expect(report.sentences, `with CRASH_SEED=${seed}`).toEqual([])
    expect(report.cases).toBeGreaterThan(7)
  })
})
