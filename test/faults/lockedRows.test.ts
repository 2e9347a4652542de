import { randomBytes } from "node:crypto"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../support/processes.ts"
import { makeTenant, type Plane, publish, startPlane } from "./plane.ts"

/** Longer than a statement of the node may take (5 s), shorter than a commit is asked again (15 s). */
const heldMillis = 7000

describe("a claim's row that somebody holds locked", { timeout: 60_000 }, () => {
  let plane: Plane
  let holder: pg.Client

  beforeAll(async () => {
    plane = await startPlane()
    holder = new pg.Client({ connectionString: plane.postgres.url })
    await holder.connect()
  }, 120_000)
  afterAll(async () => {
    await holder?.end()
    await plane?.dispose()
  })

  it("holds up its own upload alone, which is made once the row is free", async () => {
    const { baseUrl } = plane.node()
    const [victim, other] = [await makeTenant(baseUrl, plane.adminKey), await makeTenant(baseUrl, plane.adminKey)]
    const file = () => ({ name: "f", bytes: randomBytes(100) })
    await holder.query("begin")
    await holder.query("select 1 from claims where project = $1 for update", [victim.project])
    const order: Array<string> = []
    const late = publish(baseUrl, victim, file()).then((answer) => {
      order.push("victim")
      return answer
    })
    await sleep(200)
    const began = Date.now()
    const others: Array<number> = []
    while (Date.now() - began < heldMillis) {
      others.push((await publish(baseUrl, other, file())).status)
      order.push("other")
    }
    expect(order).not.toContain("victim")
    expect(new Set(others)).toEqual(new Set([201]))
    // One after the other: had they waited for the row, there would be a single one.
    expect(others.length).toBeGreaterThan(5)
    await holder.query("rollback")
    expect((await late).status).toBe(201)
  })
})
