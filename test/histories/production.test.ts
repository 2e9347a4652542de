import { expect, it } from "vitest"
import { shortSearch } from "./search.ts"

it(
  "random histories hold what the contract promises, on two pods that are killed, frozen and cut off",
  { timeout: 600_000 },
  async () => {
    expect(await shortSearch("production")).toBe(undefined)
  },
)
