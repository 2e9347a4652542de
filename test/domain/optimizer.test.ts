import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { run } from "../support/processes.ts"

const root = join(import.meta.dirname, "../..")

/** How many functions V8 optimizes in a busy loop of a process that begins with this import. */
const optimizedIn = async (firstImport: string) => {
  const loop =
    "console.log('BEGIN'); let sum = 0; const add = (n) => { for (let i = 0; i < 1000; i++) sum += i % n }; for (let n = 1; n < 20000; n++) add(n)"
  const printed = await run(process.execPath, ["--trace-opt", "--input-type=module", "-e", `${firstImport}; ${loop}`], {
    cwd: root,
  })
  return (printed.split("BEGIN")[1] ?? "").split("\n").filter((line) => line.startsWith("[compiling method")).length
}

describe("a process that begins without the optimizer", () => {
  it("compiles nothing that an exit would have to wait for", async () => {
    expect(await optimizedIn('import "./src/WithoutOptimizer.ts"')).toBe(0)
    expect(await optimizedIn('import "./src/domain/Ids.ts"')).toBeGreaterThan(0)
  })
})
