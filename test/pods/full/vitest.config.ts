import { resolve } from "node:path"
import { defineConfig } from "vitest/config"

/** The long stories of a cluster, one after the other; they start all they need themselves. */
export default defineConfig({
  root: resolve(import.meta.dirname, "../../.."),
  test: { include: ["test/pods/full/**/*.test.ts"], fileParallelism: false },
})
