import { randomBytes } from "node:crypto"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type ProductNode, startNode } from "../support/node.ts"
import { type PostgresServer, startPostgres } from "../support/postgres.ts"
import { privateDir, type PrivateDir, run } from "../support/processes.ts"
import { type RedisServer, startRedis } from "../support/redis.ts"

const root = join(import.meta.dirname, "../..")

describe("a pod with a store of its own", { timeout: 300_000 }, () => {
  let postgres: PostgresServer
  let redis: RedisServer
  let home: PrivateDir
  beforeAll(async () => {
    ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
    home = privateDir("stores")
    await run(process.execPath, ["src/migrate.ts"], { cwd: root, env: { ...process.env, DATABASE_URL: postgres.url } })
  }, 120_000)
  afterAll(async () => {
    await Promise.all([postgres?.dispose(), redis?.dispose()])
    home?.remove()
  })

  const environment = (folder: string) => ({
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    DATA_DIR: join(home.path, folder),
    BOOTSTRAP_API_KEY: `mbx_${"0".repeat(64)}`,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
  })
  const started = (folder: string) => startNode({ env: environment(folder), readyWithinMs: 120_000 })
  const ended = async (nodes: ReadonlyArray<PromiseSettledResult<ProductNode>>) => {
    await Promise.all(nodes.map((node) => (node.status === "fulfilled" ? node.value.stop() : undefined)))
    return nodes.flatMap((node) => (node.status === "rejected" ? [String(node.reason)] : []))
  }
  const refusedIn = (folder: string) => Promise.allSettled([started(folder)]).then(ended)

  it("of two that start first, one runs and the other is refused", async () => {
    for (const folder of ["a", "b"]) mkdirSync(join(home.path, folder))
    const refused = await ended(await Promise.allSettled([started("a"), started("b")]))
    expect(refused).toEqual([expect.stringContaining("The blob store has no store id")])
  })

  it("is refused, and so is the right one after it was emptied, until the id is placed on purpose", async () => {
    mkdirSync(join(home.path, "forgotten"))
    expect(await refusedIn("forgotten")).toEqual([expect.stringContaining("--place-store-id")])
    const outcomes = [await refusedIn("a"), await refusedIn("b")]
    expect(outcomes.map((refused) => refused.length).sort()).toEqual([0, 1])
    const right = outcomes[0]?.length === 0 ? "a" : "b"
    rmSync(join(home.path, right), { recursive: true })
    mkdirSync(join(home.path, right))
    expect(await refusedIn(right)).toEqual([expect.stringContaining("The blob store has no store id")])
  })
})
