import { defineConfig } from "vitest/config"

/** The BlobStore suite over the S3 server named by S3_FACTS. */
export default defineConfig({
  test: { include: ["test/suites/*.s3test.ts"], testTimeout: 60_000, hookTimeout: 60_000 },
})
