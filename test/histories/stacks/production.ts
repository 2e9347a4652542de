import { mkdirSync } from "node:fs"
import { join, resolve } from "node:path"
import { Redis } from "ioredis"
import { promote, replicatingFlavour, startReplica } from "../../faults/failover/pair.ts"
import { insidesOfServers } from "../../faults/insides.ts"
import { makePod, type Pod } from "../../pods/support/pod.ts"
import { startStore, type StoreKind } from "../../pods/support/store.ts"
import { productionEnvironment } from "../../support/environment.ts"
import { freePort } from "../../support/ports.ts"
import { startPostgres } from "../../support/postgres.ts"
import { privateDir, run, sleep } from "../../support/processes.ts"
import { type Proxy, startProxy } from "../../support/proxy.ts"
import { startRedis } from "../../support/redis.ts"
import type { Stack } from "../history.ts"

const root = resolve(import.meta.dirname, "../../..")

const behind = (url: string, proxy: Proxy): string => {
  const address = new URL(url)
  address.port = String(proxy.port)
  return address.href
}

/** No connection is taken, or none brings anything; what was on its way then never arrives. */
const cut = async (proxy: Proxy, how: "refused" | "silent", ms: number) => {
  if (how === "silent") proxy.stall()
  else await proxy.refuse()
  await sleep(ms)
  await proxy.refuse()
  await proxy.resume()
}

/** A pod, and the ways by which it reaches the servers. */
interface Place {
  readonly pod: Pod
  readonly toPostgres: Proxy
  readonly toRedis: Proxy
}

const podCount = 2

export const productionFaults = [
  "kill",
  "freeze",
  "Postgres refused",
  "Postgres silent",
  "Redis refused",
  "Redis silent",
  "Postgres killed",
  "Postgres restarted",
  "Redis killed",
  "Redis flushed",
  "Redis failed over",
] as const

/** Those of a Postgres of which replicas can be made. */
export const failoverFaults = [
  "Postgres failed over",
  "kill",
  "freeze",
  "Postgres silent",
  "Redis failed over",
] as const
type Kind = (typeof productionFaults)[number] | (typeof failoverFaults)[number]

/** Two pods of one cluster over Postgres, Redis and a store; each pod reaches the servers through proxies of its own. */
export const startProduction = async (
  options: { readonly store?: StoreKind; readonly replicating?: boolean } = {},
): Promise<Stack> => {
  const home = privateDir("histories")
  const dataDir = join(home.path, "data")
  mkdirSync(dataDir)
  const stops: Array<() => Promise<unknown> | void> = [home.remove]
  const dispose = async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  }
  const kept = async <A extends { dispose(): Promise<void> }>(starting: Promise<A>): Promise<A> => {
    const server = await starting
    stops.push(() => server.dispose())
    return server
  }
  try {
    const starting = [
      kept(startPostgres(options.replicating === true ? { flavour: replicatingFlavour() } : {})),
      kept(startRedis({ appendOnly: true })),
      kept(startStore(options.store ?? "files", dataDir)),
    ] as const
    await Promise.allSettled(starting)
    const [firstPostgres, redis, store] = await Promise.all(starting)
    let postgres = firstPostgres
    const { adminKey, env: common } = productionEnvironment(postgres.url, redis.url, dataDir)
    const shared = {
      ...common,
      RUNNER_HOST: "127.0.0.1",
      LOG_LEVEL: "warning",
      SWEEP_SECONDS: "1",
      ABANDONED_AFTER_SECONDS: "12",
      ORPHAN_SWEEP_SECONDS: "2",
      ORPHAN_AGE_SECONDS: "8",
      ORPHAN_CONFIRM_SECONDS: "2",
      ...store.env,
    }
    const base = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
    await run(process.execPath, ["src/migrate.ts"], { cwd: root, env: { ...base, ...shared } })
    const places: Array<Place> = []
    for (let index = 0; index < podCount; index++) {
      const toPostgres = await kept(startProxy({ host: "127.0.0.1", port: postgres.port }))
      const toRedis = await kept(startProxy({ host: "127.0.0.1", port: redis.port }))
      const env = {
        ...shared,
        DATABASE_URL: behind(postgres.url, toPostgres),
        REDIS_URL: behind(redis.url, toRedis),
        RUNNER_PORT: String(await freePort()),
      }
      places.push({ toPostgres, toRedis, pod: makePod({ name: `pod${index}`, port: await freePort(), env }) })
    }
    stops.push(() => Promise.all(places.map(({ pod }) => pod.kill9().catch(() => {}))))
    await Promise.all(places.map(({ pod }) => pod.start()))
    const flush = async () => {
      const client = new Redis(redis.url)
      await client.flushall().finally(() => client.disconnect())
    }
    const deeds: Record<Kind, (place: Place, ms: number) => Promise<void>> = {
      kill: async ({ pod }) => {
        await pod.kill9()
        await pod.start()
      },
      freeze: async ({ pod }, ms) => {
        pod.pause()
        await sleep(ms)
        pod.resume()
      },
      "Postgres refused": ({ toPostgres }, ms) => cut(toPostgres, "refused", ms),
      "Postgres silent": ({ toPostgres }, ms) => cut(toPostgres, "silent", ms),
      "Redis refused": ({ toRedis }, ms) => cut(toRedis, "refused", ms),
      "Redis silent": ({ toRedis }, ms) => cut(toRedis, "silent", ms),
      "Postgres killed": async (_, ms) => {
        await postgres.kill9()
        await sleep(ms)
        await postgres.start()
      },
      "Postgres restarted": () => postgres.restart(),
      "Postgres failed over": async () => {
        const replica = await kept(startReplica(postgres, { synchronous: true }))
        await postgres.kill9()
        await promote(replica)
        postgres = replica
        for (const { toPostgres } of places) {
          await toPostgres.refuse()
          toPostgres.redirect(replica.port)
          await toPostgres.resume()
        }
      },
      "Redis killed": async (_, ms) => {
        await redis.kill9()
        await sleep(ms)
        await redis.start()
      },
      "Redis flushed": flush,
      // Its replica had lagged behind.
      "Redis failed over": async (_, ms) => {
        const copy = await redis.saveSnapshot()
        await sleep(ms)
        await redis.restoreSnapshot(copy)
      },
    }
    return {
      adminKey,
      pods: places.map(({ pod }) => pod.baseUrl),
      insides: {
        look: () =>
          insidesOfServers({
            postgresUrl: postgres.url,
            redisUrl: redis.url,
            streamKey: shared.EVENT_STREAM_KEY,
            blobs: store.contents,
          }).look(),
      },
      wreak: async ({ ms, pod, what }) => {
        const place = places[pod]
        if (place !== undefined) await deeds[what as Kind](place, ms)
      },
      crashed: () => places.flatMap(({ pod }) => (pod.crashed() ? [pod.name] : [])),
      hasten: flush,
      logs: () => places.map(({ pod }) => `${pod.name}:\n${pod.logs().slice(-8000)}`).join("\n"),
      dispose,
    }
  } catch (error) {
    await dispose()
    throw error
  }
}
