import { afterAll, beforeAll, describe } from "vitest"
import { shows } from "./shows.ts"
import { type Cluster, startCluster } from "./support/cluster.ts"

describe("three pods", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ pods: 3 })
  }, 120_000)
  afterAll(() => cluster?.dispose())

  shows(() => cluster, { uploads: 60 })
})
