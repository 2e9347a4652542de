import { expect, it } from "vitest"
import { fullMeasure, podsStory } from "../story.ts"

it(
  "three minutes in which pods die, stop and hang, and Redis and Postgres come and go",
  { timeout: 600_000 },
  async () => {
    const report = await podsStory({ measure: fullMeasure })
    expect(report.faults, `with seed ${report.seed}`).toEqual([])
    expect(report.settledAfterMs).toBeLessThan(60_000)
    // On a machine that is slow to start pods, some kills find none that serves.
    expect(report.kills).toBeGreaterThan(8)
    expect(report.published).toBeGreaterThan(200)
    expect(report.events).toBeGreaterThanOrEqual(report.published)
  },
)
