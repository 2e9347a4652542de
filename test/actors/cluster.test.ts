import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { makeTenant, publish } from "../faults/plane.ts"
import { type Pods, preparePods } from "./clusterScene.ts"

const postgresUrl = inject("postgresUrl")
const redisUrl = inject("redisUrl")

/** Asks every 50 ms until it holds; the last answer is the assertion's. */
const eventually = async <A>(ask: () => Promise<A>, holds: (answer: A) => boolean, withinMs: number): Promise<A> => {
  const until = Date.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (holds(answer) || Date.now() > until) return answer
    await sleep(50)
  }
}

if (postgresUrl !== null && redisUrl !== null)
  describe("actors on several pods", () => {
    let pods: Pods
    const redis = new Redis(redisUrl)
    const value = async (sql: string, parameters: ReadonlyArray<unknown> = []): Promise<any> =>
      Object.values((await pods.database.query(sql, [...parameters])).rows[0] ?? {})[0]

    beforeAll(async () => {
      pods = await preparePods({
        postgresUrl,
        redisUrl,
        env: { SWEEP_SECONDS: "1", ABANDONED_AFTER_SECONDS: "3" },
      })
    })
    afterAll(async () => {
      redis.disconnect()
      await pods.dispose()
    })

    it(
      "the shards are shared, a killed pod's move to the others, and the stream goes on",
      { timeout: 60_000 },
      async () => {
        const [one, two] = await Promise.all([pods.start(), pods.start()])
        const shares = () =>
          pods.database.query(
            "select address, count(*)::int as shards from cluster_locks group by address order by address",
          )
        const shared = await eventually(
          shares,
          ({ rows }) => rows.length === 2 && rows.every(({ shards }) => shards > 100),
          20_000,
        )
        expect(shared.rows.map(({ shards }) => shards > 100)).toEqual([true, true])

        const tenant = await makeTenant(one.baseUrl, pods.adminKey)
        expect((await publish(one.baseUrl, tenant, { name: "a", bytes: randomBytes(10) })).status).toBe(201)
        expect(
          await eventually(
            () => redis.xlen(pods.streamKey),
            (length) => length === 1,
            10_000,
          ),
        ).toBe(1)

        await one.kill9()
        expect((await publish(two.baseUrl, tenant, { name: "b", bytes: randomBytes(10) })).status).toBe(201)
        expect(
          await eventually(
            () => redis.xlen(pods.streamKey),
            (length) => length === 2,
            20_000,
          ),
        ).toBe(2)
        const moved = await eventually(shares, ({ rows }) => rows[0]?.shards === 300, 20_000)
        expect(moved.rows.map(({ shards }) => shards)).toEqual([300])

        const three = await pods.start()
        await eventually(shares, ({ rows }) => rows.length === 2 && rows[0].shards < 200, 15_000)
        const began = Date.now()
        await two.stop()
        expect((await publish(three.baseUrl, tenant, { name: "c", bytes: randomBytes(10) })).status).toBe(201)
        expect(
          await eventually(
            () => redis.xlen(pods.streamKey),
            (length) => length === 3,
            8000,
          ),
        ).toBe(3)
        expect(Date.now() - began).toBeLessThan(8000)
        await three.stop()
      },
    )

    it("an actor paused past its lock writes nothing when it wakes", { timeout: 90_000 }, async () => {
      const first = await pods.start()
      const { project } = await makeTenant(first.baseUrl, pods.adminKey)
      await eventually(
        () => value("select epoch from project_duties where project = $1", [project]),
        (epoch) => Number(epoch) > 0,
        10_000,
      )

      const left = async () =>
        Number(await value("select count(*) from artifacts where project = $1 and state = 'pending'", [project]))
      // Dead uploads, so many that the sweep can be stopped in its middle: each one's bytes and row go by themselves, a
      // few at a time.
      const count = 200
      let inTheMiddle = 0
      while (inTheMiddle < 20) {
        first.resume()
        await eventually(left, (rows) => rows === 0, 10_000)
        await pods.database.query(
          `insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, reserved_bytes, renewed_at)
           select 'art_' || $1 || n, $2, 'pending', $2 || '/dead' || n, 'agent', 'worker', 10, now() - interval '1 hour'
           from generate_series(1, $3) as n`,
          [randomBytes(6).toString("hex"), project, count],
        )
        for (let seen = count; seen === count; seen = await left());
        first.pause()
        await sleep(200)
        inTheMiddle = await left()
      }
      const stale = Number(await value("select epoch from project_duties where project = $1", [project]))
      await pods.database.query(
        `create table not_yet_swept as select * from artifacts where project = '${project}' and state = 'pending'`,
      )

      const second = await pods.start()
      // The other pod gets the shard once the lock is past; from then on the project has a later epoch.
      expect(
        await eventually(
          async () => Number(await value("select epoch from project_duties where project = $1", [project])),
          (epoch) => epoch > stale,
          40_000,
        ),
      ).toBeGreaterThan(stale)
      expect(await eventually(left, (rows) => rows === 0, 10_000)).toBe(0)
      // The very rows that the paused sweep is about to remove, as nobody else's business now.
      await pods.database.query("update not_yet_swept set fenced_at = now(), renewed_at = now() + interval '1 hour'")
      await pods.database.query("insert into artifacts select * from not_yet_swept")
      first.resume()
      expect(await eventually(left, (rows) => rows < inTheMiddle, 5000)).toBe(inTheMiddle)
      await Promise.all([first.stop(), second.stop()])
    })
  })
