import { defineConfig } from "vitest/config"

/** Black-box tests against the node named by BASE_URL; nothing is started here. */
export default defineConfig({
  test: {
    // Vite gives its workers a BASE_URL of its own.
    env: { TARGET_BASE_URL: process.env["BASE_URL"] ?? "" },
    include: ["test/acceptance/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
