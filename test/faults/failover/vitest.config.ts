import { resolve } from "node:path"
import { defineConfig } from "vitest/config"

/** Failovers of real servers under load, one after the other; they start all they need themselves. */
export default defineConfig({
  root: resolve(import.meta.dirname, "../../.."),
  test: {
    include: ["test/faults/failover/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
})
