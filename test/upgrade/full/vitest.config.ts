import { resolve } from "node:path"
import { defineConfig } from "vitest/config"

/** The stories of an upgrade and a rollback, one after the other; they start all they need themselves. */
export default defineConfig({
  root: resolve(import.meta.dirname, "../../.."),
  test: { include: ["test/upgrade/full/**/*.test.ts"], fileParallelism: false },
})
