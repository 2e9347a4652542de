import type { TestProject } from "vitest/node"
import { orNotRun } from "./backends.ts"
import { startPostgres } from "./postgres.ts"
import { startRedis } from "./redis.ts"
import { type S3Facts, s3Facts, startS3StandIn } from "./s3.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** Of the run's one Postgres; each test file makes a database of its own on it. Null: not run. */
    postgresUrl: string | null
    /** Of the run's one Redis; tests keep apart by project and stream key and never flush it. Null: not run. */
    redisUrl: string | null
    /** Of the run's one S3 stand-in. Null: not run. */
    s3: S3Facts | null
  }
}

/** Starts the servers all test files share, in parallel, and stops them after the last. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const started: Array<() => Promise<void>> = []
  const stopAll = async () => {
    await Promise.all(started.map((stop) => stop()))
  }
  const outcomes = await Promise.allSettled([
    // Many test files use it at once, more than a server's default number of connections allows.
    orNotRun("Postgres", () => startPostgres({ settings: { max_connections: 200 } })).then((server) => {
      if (server !== null) started.push(server.dispose)
      project.provide("postgresUrl", server?.url ?? null)
    }),
    orNotRun("Redis", startRedis).then((server) => {
      if (server !== null) started.push(server.dispose)
      project.provide("redisUrl", server?.url ?? null)
    }),
    orNotRun("S3 stand-in", startS3StandIn).then((server) => {
      if (server !== null) started.push(server.stop)
      project.provide("s3", server === null ? null : s3Facts(server))
    }),
  ])
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled") continue
    await stopAll()
    throw outcome.reason
  }
  return stopAll
}
