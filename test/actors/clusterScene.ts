import { randomBytes } from "node:crypto"
import { join, resolve } from "node:path"
import pg from "pg"
import { type ProductNode, startNode } from "../support/node.ts"
import { freePort } from "../support/ports.ts"
import { createDatabase } from "../support/postgres.ts"
import { privateDir, run } from "../support/processes.ts"

const root = resolve(import.meta.dirname, "../..")

export interface Pods {
  readonly adminKey: string
  readonly database: pg.Client
  readonly blobDir: string
  readonly streamKey: string
  start(): Promise<ProductNode>
  dispose(): Promise<void>
}

/** Pods of one cluster over a database of their own on shared servers, started one by one. */
export const preparePods = async (servers: {
  readonly postgresUrl: string
  readonly redisUrl: string
  readonly env?: Readonly<Record<string, string>>
}): Promise<Pods> => {
  const url = await createDatabase({ url: servers.postgresUrl })
  const home = privateDir("pods")
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const streamKey = `events-${randomBytes(6).toString("hex")}`
  const env = {
    DATABASE_URL: url,
    REDIS_URL: servers.redisUrl,
    DATA_DIR: join(home.path, "data"),
    BOOTSTRAP_API_KEY: adminKey,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
    EVENT_STREAM_KEY: streamKey,
    METRICS_PORT: "0",
    ...servers.env,
  }
  const base = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
  await run(process.execPath, ["src/migrate.ts"], { cwd: root, env: { ...base, ...env } })
  const database = new pg.Client({ connectionString: url })
  await database.connect()
  const started: Array<ProductNode> = []
  return {
    adminKey,
    database,
    blobDir: join(home.path, "data/blobs"),
    streamKey,
    start: async () => {
      const node = await startNode({ env: { ...env, RUNNER_HOST: "127.0.0.1", RUNNER_PORT: String(await freePort()) } })
      started.push(node)
      return node
    },
    dispose: async () => {
      await Promise.all(started.map((node) => node.kill9().catch(() => {})))
      await database.end()
      home.remove()
    },
  }
}
