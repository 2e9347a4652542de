import { expect, it } from "vitest"
import { shortSearch } from "./search.ts"

it("random histories hold what the contract promises, on an embedded node", { timeout: 600_000 }, async () => {
  expect(await shortSearch("embedded")).toBe(undefined)
})
