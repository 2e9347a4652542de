import { expect, it } from "vitest"
import { podsStory, shortMeasure } from "./story.ts"

it("pods die, and what clients were told stands", { timeout: 240_000 }, async () => {
  const report = await podsStory({
    measure: shortMeasure,
    env: {
      ABANDONED_AFTER_SECONDS: "12",
      ORPHAN_SWEEP_SECONDS: "2",
      ORPHAN_AGE_SECONDS: "8",
      ORPHAN_CONFIRM_SECONDS: "2",
    },
  })
  expect(report.faults, `with seed ${report.seed}`).toEqual([])
  expect(report.kills).toBeGreaterThan(0)
  expect(report.published).toBeGreaterThan(20)
  expect(report.events).toBeGreaterThanOrEqual(report.published)
})
