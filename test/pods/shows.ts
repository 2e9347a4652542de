import { expect, it } from "vitest"
import { quotaStory } from "../faults/quotaStory.ts"
import { leaseLostMidway } from "./leaseLost.ts"
import type { Cluster } from "./support/cluster.ts"

/** What three running pods must show; `uploads` are started at once into a quota for ten. */
export const shows = (cluster: () => Cluster, options: { readonly uploads: number }): void => {
  it("a lease lost to a later attempt on another pod, midway: refused, and no trace", { timeout: 60_000 }, async () => {
    const report = await leaseLostMidway(cluster())
    expect(report.late.status).toBe(409)
    expect(report.late.body.error.code).toBe("lease_lost")
    expect(report.next.status).toBe(201)
    expect(report.traces).toEqual([])
  })

  it(
    `${options.uploads} uploads at once over all pods: used + reserved never passes the limit, at any sample`,
    { timeout: 120_000 },
    async () => {
      const { adminKey, baseUrl, pods, postgres, redis } = cluster()
      const views = pods.map((pod) => pod.baseUrl)
      const scene = { baseUrl, adminKey, views, postgresUrl: postgres.url, redisUrl: redis.url }
      const report = await quotaStory(scene, { flush: false, uploads: options.uploads })
      console.table(report)
      expect(report.others).toEqual([])
      expect(report.succeeded).toBeGreaterThan(0)
      expect(report.succeeded).toBeLessThanOrEqual(10)
      expect(report.highestBooked).toBeLessThanOrEqual(report.limit)
      expect(report.highestReady).toBeLessThanOrEqual(report.limit)
      expect(report.samples).toBeGreaterThan(10)
      expect(report.afterDelete).toBe(201)
    },
  )
}
