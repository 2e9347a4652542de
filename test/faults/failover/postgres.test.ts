import { afterEach, describe, expect, it } from "vitest"
import type { Plane } from "../plane.ts"
import { asking, type Pair, startPair } from "./pair.ts"
import { auditAfter, type Failover, failover, startFailoverPlane } from "./story.ts"

/** A caller hears of a server that is gone within two seconds; what the machine takes for a publish comes on top. */
const answerWithin = 2500
/** Two seconds on a machine of one's own. */
const backWithin = 5000

describe("Postgres fails over to a synchronous replica", () => {
  let pair: Pair | undefined
  let plane: Plane | undefined
  afterEach(async () => {
    await plane?.dispose()
    await pair?.dispose()
    ;[pair, plane] = [undefined, undefined]
  })

  /** Everything that was acknowledged is there, nobody waited, and callers are served again soon. */
  const expectNothingLost = async (name: string, over: Pair, on: Plane, outcome: Failover) => {
    const { backAfter, probes, slowest, calm } = outcome
    const found = await auditAfter(on, { postgres: over.replica.url, redis: on.redis.url }, outcome)
    expect(found.faults).toEqual([])
    const acknowledged = probes.filter((probe) => probe.acknowledged).length
    expect(acknowledged).toBeGreaterThan(20)
    const held = await asking(over.replica, (client) => client.query("select hold_reason from blob_store"))
    expect(held.rows).toEqual([{ hold_reason: null }])
    console.log(
      `${name}: back ${backAfter} ms after the new primary's first write, slowest answer ${slowest} ms ` +
        `(the machine itself up to ${Math.round(calm)} ms), ${acknowledged} of ${probes.length} probes and ${found.artifacts} artifacts kept, ` +
        `${found.events} events, settled after ${found.settledAfterMs} ms`,
    )
    expect(slowest).toBeLessThan(answerWithin + calm)
    expect(backAfter).toBeLessThan(backWithin + calm)
  }

  it("the primary is killed", async () => {
    pair = await startPair({ synchronous: true })
    plane = await startFailoverPlane({ DATABASE_URL: pair.url }, { postgres: pair.primary })
    const { primary, promote } = pair
    const outcome = await failover(plane, async () => {
      await primary.kill9()
      return promote()
    })
    await expectNothingLost("killed", pair, plane, outcome)
  })

  it("the primary hangs, and its connections are not cut", async () => {
    pair = await startPair({ synchronous: true })
    plane = await startFailoverPlane({ DATABASE_URL: pair.url }, { postgres: pair.primary })
    const { primary, promote } = pair
    const outcome = await failover(plane, async () => {
      primary.pause()
      return promote()
    })
    await expectNothingLost("frozen", pair, plane, outcome)
  })
})
