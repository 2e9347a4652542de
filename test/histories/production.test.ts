import { expect, it } from "vitest"
import { orNotRun } from "../support/backends.ts"
import { shortSearch } from "./search.ts"

it(
  "random histories hold what the contract promises, on two pods that are killed, frozen and cut off",
  { timeout: 600_000 },
  async () => {
    const broken = await orNotRun("random histories on two pods", () => shortSearch("production"))
    if (broken !== null) expect(broken).toBe(undefined)
  },
)
