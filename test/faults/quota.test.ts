import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Plane, startPlane } from "./plane.ts"
import { quotaStory, sceneOf } from "./quotaStory.ts"

describe("64 uploads of unknown size into a quota that holds ten", () => {
  let plane: Plane
  beforeAll(async () => {
    plane = await startPlane()
  })
  afterAll(() => plane.dispose())

  it("only what fits succeeds, used + reserved never passes the limit, and a delete makes room at once", async () => {
    const report = await quotaStory(sceneOf(plane), { flush: false })
    expect(report.others).toEqual([])
    expect(report.succeeded).toBeGreaterThanOrEqual(5)
    expect(report.succeeded).toBeLessThanOrEqual(10)
    expect(report.highestBooked).toBeLessThanOrEqual(report.limit)
    expect(report.highestReady).toBeLessThanOrEqual(report.limit)
    expect(report.samples).toBeGreaterThan(10)
    expect(report.afterDelete).toBe(201)
  })

  it("with Redis flushed in the middle, ready bytes never pass it", async () => {
    const report = await quotaStory(sceneOf(plane), { flush: true })
    expect(report.others).toEqual([])
    expect(report.succeeded).toBeGreaterThan(0)
    expect(report.highestReady).toBeLessThanOrEqual(report.limit)
    expect(report.afterDelete).toBe(201)
  })
})
