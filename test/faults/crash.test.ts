import { describe, expect, it } from "vitest"
import { crashStory } from "./crashStory.ts"

describe("kill -9 under mixed load", () => {
  it(
    "rows, blobs, counters and events agree afterwards, and nothing acknowledged is lost",
    { timeout: 180_000 },
    async () => {
      const report = await crashStory(4)
      expect(report.faults, `with seed ${report.seed}`).toEqual([])
      expect(report.done["publish"]).toBeGreaterThan(20)
      expect(report.events).toBeGreaterThanOrEqual(report.done["publish"] ?? 0)
    },
  )
})
