import { Redis } from "ioredis"
import { afterEach, expect, it } from "vitest"
import { orNotRun } from "../../support/backends.ts"
import { sleep } from "../../support/processes.ts"
import { type RedisServer, startRedis } from "../../support/redis.ts"
import { startTcpSwitch, type TcpSwitch } from "../../support/tcpSwitch.ts"
import type { Plane } from "../plane.ts"
import { auditAfter, failover, startFailoverPlane } from "./story.ts"

interface Servers {
  readonly primary: RedisServer
  readonly replica: RedisServer
  readonly address: TcpSwitch
}

let servers: Servers | null = null
let plane: Plane | undefined
afterEach(async () => {
  await plane?.dispose()
  await servers?.address.dispose()
  await servers?.primary.dispose()
  await servers?.replica.dispose()
})

const asking = async <A>(server: RedisServer, question: (redis: Redis) => Promise<A>): Promise<A> => {
  const redis = new Redis(server.url)
  try {
    return await question(redis)
  } finally {
    redis.disconnect()
  }
}

const startServers = async (): Promise<Servers> => {
  const primary = await startRedis()
  const replica = await startRedis({ args: ["--replicaof", "127.0.0.1", String(primary.port)] })
  const linked = async () => /master_link_status:up/.test(await asking(replica, (redis) => redis.info("replication")))
  while (!(await linked())) await sleep(20)
  return { primary, replica, address: await startTcpSwitch([primary.port, replica.port]) }
}

const length = (server: RedisServer, key: string) => asking(server, (redis) => redis.xlen(key))

it("Redis fails over to a replica without the tail: the stream is whole again, each event once, in order", async () => {
  servers = await orNotRun("Redis with a replica, behind HAProxy", startServers)
  if (servers === null) return
  const { address, primary, replica } = servers
  plane = await startFailoverPlane({ REDIS_URL: `redis://127.0.0.1:${address.port}` }, { redis: primary })
  const { streamKey } = plane
  let missing = 0
  const outcome = await failover(plane, async () => {
    // From here on the replica gets nothing more, which a primary that dies knows nothing of.
    await asking(replica, (redis) => redis.replicaof("NO", "ONE"))
    await sleep(1500)
    missing = (await length(primary, streamKey)) - (await length(replica, streamKey))
    await primary.kill9()
    const at = Date.now()
    await address.lead(1)
    return at
  })
  expect(missing).toBeGreaterThan(0)
  const found = await auditAfter(plane, { postgres: plane.postgres.url, redis: replica.url }, outcome)
  expect(found.faults).toEqual([])
  expect(plane.node().logs()).toContain("The event stream lost entries: refilling it.")
  console.log(
    `Redis: ${missing} events were missing, served again ${outcome.backAfter} ms after the switch, ` +
      `${found.artifacts} artifacts and ${found.events} events, each once`,
  )
  expect(outcome.backAfter).toBeLessThan(5000 + outcome.calm)
})
