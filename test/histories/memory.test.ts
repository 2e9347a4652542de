import { expect, it } from "vitest"
import { shortSearch } from "./search.ts"

it("random histories hold what the contract promises, over the memory layers", { timeout: 600_000 }, async () => {
  expect(await shortSearch("memory")).toBe(undefined)
})
