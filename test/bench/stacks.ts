import { randomBytes } from "node:crypto"
import { mkdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { Redis } from "ioredis"
import { makeTenant, type Tenant } from "../faults/plane.ts"
import { type ProductNode, startNode } from "../support/node.ts"
import { freePort } from "../support/ports.ts"
import { startPostgres } from "../support/postgres.ts"
import { privateDir, run } from "../support/processes.ts"
import { startRedis } from "../support/redis.ts"
import { s3Environment, type S3Server } from "../support/s3.ts"
import { type CpuMicros, cpuMicros } from "../support/procfs.ts"

export interface Stack {
  readonly name: string
  readonly nodes: ReadonlyArray<ProductNode>
  /** Of the nodes, in their order. */
  readonly ports: ReadonlyArray<number>
  /** As its superuser, for seeding; absent on the embedded stack, as `redisUrl` is. */
  readonly databaseUrl: string | undefined
  readonly redisUrl: string | undefined
  readonly streamKey: string
  /** Where its artifacts are, when they are files. */
  readonly filesFolder: string
  /** Of all nodes together, of the database with its backends, and of Redis. */
  cpu(): CpuMicros
  tenants(count: number): Promise<ReadonlyArray<Tenant>>
  /** One more node over the same dependencies; resolves with the time from spawning to ready, in seconds. */
  coldStart(): Promise<number>
  dispose(): Promise<void>
}

export interface ProductionStack extends Stack {
  /** Starts nodes until there are so many; of a clustered stack only. */
  grow(count: number): Promise<void>
}

export interface StackOptions {
  /** Its nodes are pods of a cluster, at first one. */
  readonly clustered?: boolean
  readonly s3?: S3Server
  /** Each node writes a CPU profile there when it stops. */
  readonly profileFolder?: string | undefined
}

const root = resolve(import.meta.dirname, "../..")
const TiB = 1024 ** 4
const streamKey = "events"

const portOf = (node: ProductNode) => Number(new URL(node.baseUrl).port)

const redisPid = async (url: string): Promise<number> => {
  const redis = new Redis(url)
  try {
    return Number(/process_id:(\d+)/.exec(await redis.info("server"))?.[1])
  } finally {
    redis.disconnect()
  }
}

const makeStack = (
  name: string,
  env: Readonly<Record<string, string>>,
  nodes: ReadonlyArray<ProductNode>,
  servers: Readonly<Record<string, number>>,
  dispose: () => Promise<void>,
): Stack => {
  const adminKey = env["BOOTSTRAP_API_KEY"] ?? ""
  return {
    name,
    nodes,
    get ports() {
      return nodes.map(portOf)
    },
    databaseUrl: env["DATABASE_URL"],
    redisUrl: env["REDIS_URL"],
    streamKey,
    filesFolder: join(env["DATA_DIR"] ?? "", "blobs"),
    cpu: () => ({
      node: nodes.reduce((sum, { pid }) => sum + cpuMicros(pid), 0),
      ...Object.fromEntries(Object.entries(servers).map(([who, pid]) => [who, cpuMicros(pid)])),
    }),
    tenants: (count) =>
      Promise.all(
        Array.from({ length: count }, () => makeTenant(nodes[0]?.baseUrl ?? "", adminKey, { quotaBytes: TiB })),
      ),
    coldStart: async () => {
      const began = performance.now()
      const node = await startNode({ env: { ...env, ...(await ownPorts()) } })
      const seconds = (performance.now() - began) / 1000
      await node.stop()
      return seconds
    },
    dispose: async () => {
      await Promise.all(nodes.map((node) => node.stop()))
      await dispose()
    },
  }
}

/** Nodes of one machine must not want the same ports. */
const ownPorts = async () => ({ METRICS_PORT: String(await freePort()) })
const runnerPorts = async () => ({ RUNNER_HOST: "127.0.0.1", RUNNER_PORT: String(await freePort()) })

/** Postgres with fsync on over its Unix socket, Redis, files or S3, and a node. */
export const startProduction = async ({
  clustered = false,
  profileFolder,
  s3,
}: StackOptions = {}): Promise<ProductionStack> => {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  const home = privateDir("bench")
  const dataDir = join(home.path, "data")
  mkdirSync(dataDir)
  const env: Record<string, string> = {
    DATABASE_URL: `postgres://postgres@localhost:${postgres.port}/postgres?host=${encodeURIComponent(postgres.socketDir)}`,
    REDIS_URL: redis.url,
    DATA_DIR: dataDir,
    BOOTSTRAP_API_KEY: `mbx_${randomBytes(32).toString("hex")}`,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
    EVENT_STREAM_KEY: streamKey,
    ...(s3 && s3Environment(s3)),
  }
  const base = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
  await run(process.execPath, ["src/migrate.ts"], { cwd: root, env: { ...base, ...env } })
  if (profileFolder !== undefined) env["NODE_OPTIONS"] = `--cpu-prof --cpu-prof-dir=${profileFolder}`
  const nodes: Array<ProductNode> = []
  const add = async () => {
    nodes.push(await startNode({ env: { ...env, ...(await ownPorts()), ...(clustered && (await runnerPorts())) } }))
  }
  await add()
  const servers = {
    postgres: Number(readFileSync(join(postgres.dataDir, "postmaster.pid"), "utf8").split("\n")[0]),
    redis: await redisPid(redis.url),
  }
  const stack = makeStack(s3 ? "production, S3" : "production", env, nodes, servers, async () => {
    await Promise.all([postgres.dispose(), redis.dispose()])
    home.remove()
  })
  const grow = async (count: number) => {
    while (nodes.length < count) await add()
  }
  return Object.assign(stack, { grow })
}

/** One process and one folder. */
export const startEmbedded = async (): Promise<Stack> => {
  const home = privateDir("bench-embedded")
  const env = {
    DATA_DIR: join(home.path, "data"),
    BOOTSTRAP_API_KEY: `mbx_${randomBytes(32).toString("hex")}`,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
  }
  const node = await startNode({ env: { ...env, ...(await ownPorts()) } })
  return makeStack("embedded", env, [node], {}, async () => home.remove())
}
