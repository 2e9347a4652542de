import { setTimeout } from "node:timers/promises"
import { expect, it } from "vitest"
import { PartBudget } from "../../layers/BlobStore/s3/PartBudget.ts"

const mebibyte = 1024 * 1024
const chunk = 65_536
const part = 5 * mebibyte

/** Writers that hold what they took until a part, or the object, is complete. Resolves to the most held at once. */
const run = async (writers: number, objectBytes: number, budgetBytes: number) => {
  const budget = new PartBudget(budgetBytes, part)
  let held = 0
  let most = 0
  const write = async () => {
    const owner = {}
    let own = 0
    for (let sent = 0; sent < objectBytes; sent += chunk) {
      await budget.take(owner, chunk)
      held += chunk
      own += chunk
      most = Math.max(most, held)
      // Every sender's next chunk comes in its own time.
      await setTimeout(0)
      if (own < part && sent + chunk < objectBytes) continue
      held -= own
      budget.give(owner, own)
      own = 0
    }
  }
  await Promise.all(Array.from({ length: writers }, write))
  expect(held).toBe(0)
  return most
}

it("200 writers of 1 MiB get through 48 MiB without waiting on a clock", { timeout: 5_000 }, async () => {
  const most = await run(200, mebibyte, 48 * mebibyte)
  expect(most).toBeGreaterThan(40 * mebibyte)
  expect(most).toBeLessThanOrEqual(48 * mebibyte + part + chunk)
})

it("12 writers of more than one part get through four parts", { timeout: 10_000 }, async () => {
  expect(await run(12, 12 * mebibyte, 4 * part)).toBeLessThanOrEqual(5 * part + chunk)
})

it("the reserve is one owner's until it gives back, then the next one's", async () => {
  const budget = new PartBudget(10, 5)
  const [first, second, third] = [{}, {}, {}]
  expect(budget.take(first, 10)).toBeUndefined()
  await budget.take(second, 2)
  let passed = false
  const waiting = budget.take(third, 2)?.then(() => void (passed = true))
  expect(budget.take(second, 2)).toBeUndefined()
  await setTimeout(5)
  expect(passed).toBe(false)
  budget.give(second, 4)
  await waiting
  expect(passed).toBe(true)
})

it("who gives up leaves the reserve to the next", async () => {
  const budget = new PartBudget(10, 5)
  const [first, second, third] = [{}, {}, {}]
  expect(budget.take(first, 10)).toBeUndefined()
  await budget.take(second, 1)
  const waiting = budget.take(third, 1)
  budget.give(second, 0)
  await waiting
  expect(budget.take(third, 1)).toBeUndefined()
})
