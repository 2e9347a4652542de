import { resolve } from "node:path"
import { defineConfig } from "vitest/config"

/** All tests that start what they need themselves; acceptance, Kubernetes the long stories of pods and failovers have runners of their own. */
export default defineConfig({
  root: resolve(import.meta.dirname, ".."),
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [
      "test/acceptance/**",
      "test/k8s/**",
      "test/pods/full/**",
      "test/faults/failover/**",
      "test/upgrade/full/**",
    ],
    globalSetup: ["test/support/globalSetup.ts"],
    pool: "forks",
    poolOptions: { forks: { minForks: 1, maxForks: 2 } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
