import { mkdirSync } from "node:fs"
import { join, resolve } from "node:path"
import { type Insides, insidesOfServers } from "../../faults/insides.ts"
import { productionEnvironment } from "../../support/environment.ts"
import { freePort } from "../../support/ports.ts"
import { type PostgresServer, startPostgres } from "../../support/postgres.ts"
import { privateDir, run, sleep } from "../../support/processes.ts"
import { type RedisServer, startRedis } from "../../support/redis.ts"
import { type Balancer, type BalancerKind, startBalancer } from "./balancer.ts"
import { makePod, type Pod } from "./pod.ts"
import { startStore, type Store, type StoreKind } from "./store.ts"

const root = resolve(import.meta.dirname, "../../..")

/** Equal pods behind a balancer, over a Postgres, a Redis and a store of their own; all of them real processes. */
export interface Cluster {
  /** The balancer's. */
  readonly baseUrl: string
  readonly adminKey: string
  readonly streamKey: string
  readonly postgres: PostgresServer
  readonly redis: RedisServer
  readonly store: Store
  readonly balancer: Balancer
  readonly pods: ReadonlyArray<Pod>
  dispose(): Promise<void>
}

export interface ClusterOptions {
  readonly pods: number
  /** Whether they share out the background duties; default true. Else each pod does all of them. */
  readonly together?: boolean
  readonly store?: StoreKind | undefined
  readonly balancer?: BalancerKind | undefined
  /** The folder of the release that migrates and runs; default: this one. */
  readonly source?: string
  /** Configuration of every pod, on top of what the cluster needs. */
  readonly env?: Readonly<Record<string, string>>
}

/** For an audit. */
export const insidesOf = (cluster: Cluster): Insides =>
  insidesOfServers({
    postgresUrl: cluster.postgres.url,
    redisUrl: cluster.redis.url,
    streamKey: cluster.streamKey,
    blobs: cluster.store.contents,
  })

/** All of them, or the first failure once none is on its way any more. */
const together = async <const A extends ReadonlyArray<Promise<unknown>>>(promises: A) => {
  await Promise.allSettled(promises)
  return Promise.all(promises)
}

/** Returns once the balancer has found that pods serve: it had looked before any did. */
const seenByBalancer = async (baseUrl: string): Promise<void> => {
  const until = Date.now() + 15_000
  for (let answered = 0; answered < 6;) {
    const ok = await fetch(`${baseUrl}/readyz`, { signal: AbortSignal.timeout(2000) }).then(
      (response) => response.ok,
      () => false,
    )
    answered = ok ? answered + 1 : 0
    if (!ok && Date.now() > until) throw new Error("the balancer finds no pod that serves")
    await sleep(ok ? 0 : 50)
  }
}

export const startCluster = async (options: ClusterOptions): Promise<Cluster> => {
  const stops: Array<() => Promise<void> | void> = []
  const dispose = async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  }
  const kept = async <A>(starting: Promise<A>, stop: (server: A) => Promise<void> | void): Promise<A> => {
    const server = await starting
    stops.push(() => stop(server))
    return server
  }
  try {
    const home = await kept(Promise.resolve(privateDir("cluster")), (dir) => dir.remove())
    const dataDir = join(home.path, "data")
    mkdirSync(dataDir)
    const [postgres, redis, store] = await together([
      kept(startPostgres(), (server) => server.dispose()),
      // A restart keeps its data, as a Redis of production would; a flush is what loses them.
      kept(startRedis({ appendOnly: true }), (server) => server.dispose()),
      kept(startStore(options.store ?? "files", dataDir), (store) => store.dispose()),
    ])

    const { adminKey, env: common } = productionEnvironment(postgres.url, redis.url, dataDir)
    const shared = {
      ...common,
      ...(options.together !== false && { RUNNER_HOST: "127.0.0.1" }),
      METRICS_PORT: "0",
      DRAIN_DELAY_SECONDS: "2",
      ...store.env,
      ...options.env,
    }
    const base = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
    await run(process.execPath, ["src/migrate.ts"], { cwd: options.source ?? root, env: { ...base, ...shared } })

    const ports: Array<number> = []
    for (let index = 0; index < options.pods; index++) ports.push(await freePort())
    const balancer = await kept(startBalancer(ports, options.balancer), (server) => server.dispose())
    const env = { ...shared, PUBLIC_URL: balancer.baseUrl }
    const pods: Array<Pod> = []
    for (const [index, port] of ports.entries())
      pods.push(makePod({ name: `pod${index + 1}`, port, env: { ...env, RUNNER_PORT: String(await freePort()) } }))
    stops.push(() => Promise.all(pods.map((pod) => pod.kill9().catch(() => {}))).then(() => {}))
    await Promise.all(pods.map((pod) => pod.start(options.source)))
    await seenByBalancer(balancer.baseUrl)
    return {
      baseUrl: balancer.baseUrl,
      adminKey,
      streamKey: env.EVENT_STREAM_KEY,
      postgres,
      redis,
      store,
      balancer,
      pods,
      dispose,
    }
  } catch (error) {
    await dispose()
    throw error
  }
}
