import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { twoRelays } from "../relays.ts"
import { rollingRestart } from "../rollingRestart.ts"
import { shows } from "../shows.ts"
import { type Cluster, startCluster } from "../support/cluster.ts"

it("a rolling restart under load fails no request", { timeout: 300_000 }, async () => {
  const report = await rollingRestart()
  expect(report.errors, `with seed ${report.seed}`).toEqual({})
  expect(report.faults, `with seed ${report.seed}`).toEqual([])
  expect(report.slowTransfers).toBeGreaterThan(3)
  expect(report.requests).toBeGreaterThan(100)
})

it("two relays at once, paused and woken by turns: no event twice, none lost", { timeout: 240_000 }, async () => {
  const report = await twoRelays()
  expect(report.faults, `with seed ${report.seed}`).toEqual([])
  for (const events of report.meanwhile) expect(events).toBeGreaterThan(0)
})

describe("three pods", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ pods: 3 })
  }, 120_000)
  afterAll(() => cluster?.dispose())

  shows(() => cluster, { uploads: 200 })
})
