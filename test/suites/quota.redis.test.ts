import { describe, expect, it, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Redacted, Schedule } from "effect"
import { Redis as IORedis } from "ioredis"
import { inject } from "vitest"
import * as RedisClient from "../../layers/clients/Redis.ts"
import * as QuotaCountersRedis from "../../layers/QuotaCounters/Redis.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import { startRedis } from "../support/redis.ts"
import { freshProject, live } from "./fixtures.ts"
import { quotaCountersSuite } from "./QuotaCounters.ts"
import { ask, books, pendingUpload, truth, usage } from "./quotaScene.ts"

const shared = inject("redisUrl")

const over = (url: string) =>
  QuotaCountersRedis.layer.pipe(
    Layer.provideMerge(truth),
    Layer.provideMerge(RedisClient.layer({ url: Redacted.make(url) })),
  )

/** A Redis of the test's own, to be stopped and rolled back. */
const ownRedis = (options: Parameters<typeof startRedis>[0] = {}) =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis(options)),
    (server) => Effect.promise(() => server.dispose()),
  )

/** Until the counters answer again after their Redis came back. */
const answering = (project: ProjectHandle) =>
  Effect.retry(usage(project), Schedule.spaced(50).pipe(Schedule.compose(Schedule.recurs(100))))

if (shared !== null) {
  const keysOf = (project: string) => [
    `quota:{${project}}`,
    `quota:{${project}}:reservations`,
    `quota:{${project}}:expiries`,
    `quota:{${project}}:early`,
  ]

  quotaCountersSuite("Redis", over(shared), (project) =>
    Effect.promise(async () => {
      const redis = new IORedis(shared)
      await redis.del(...keysOf(project))
      redis.disconnect()
    }),
  )

  layer(over(shared), live)("QuotaCounters: Redis, its keys", (it) => {
    it.effect("a reservation lives for 45 s by Redis's clock, and what expired gives its room back", () =>
      Effect.gen(function* () {
        const { commands } = yield* RedisClient.Redis
        const project = yield* freshProject(100)
        const [figures, reservations, expiries] = keysOf(project)
        yield* ask(project, "a", 60)
        yield* ask(project, "b", 40)
        const [seconds, until] = yield* Effect.promise(
          async () => [Number((await commands.time())[0]), Number(await commands.zscore(expiries ?? "", "a"))] as const,
        )
        expect(Math.abs(until - (seconds * 1000 + 45_000))).toBeLessThan(5_000)
        yield* Effect.promise(() => commands.zadd(expiries ?? "", 1, "a"))
        expect((yield* usage(project)).reservedBytes).toBe(40)
        expect(yield* Effect.promise(() => commands.hgetall(reservations ?? ""))).toEqual({ b: "40" })
        expect(yield* Effect.promise(() => commands.hget(figures ?? "", "reserved"))).toBe("40")
        expect(yield* ask(project, "c", 60)).toBe(60)
      }),
    )

    it.effect("scripts the server forgot are sent again", () =>
      Effect.gen(function* () {
        const { commands } = yield* RedisClient.Redis
        const project = yield* freshProject(100)
        expect(yield* ask(project, "a", 10)).toBe(10)
        yield* Effect.promise(() => commands.script("FLUSH"))
        expect(yield* ask(project, "a", 20)).toBe(20)
      }),
    )
  })

  describe("QuotaCounters: Redis, its faults", () => {
    it.scopedLive("counters of another incarnation are rebuilt: an older snapshot never frees room", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        yield* Effect.gen(function* () {
          const counters = yield* QuotaCounters
          const project = yield* freshProject(100)
          yield* ask(project, "old", 5)
          const snapshot = yield* Effect.promise(() => server.saveSnapshot())
          yield* counters.refund(project, yield* books(project, { used: 70 }))
          const id = yield* pendingUpload(project, 20)
          yield* ask(project, id, 20)
          yield* Effect.promise(() => server.restoreSnapshot(snapshot))
          expect(yield* answering(project)).toEqual({ usedBytes: 70, reservedBytes: 20, limitBytes: 100 })
          expect(yield* ask(project, "next", 1, 50)).toBe(10)
        }).pipe(Effect.provide(over(server.url)))
      }),
    )

    it.scopedLive("a flush in the middle of many uploads oversells nothing", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        yield* Effect.gen(function* () {
          const { commands } = yield* RedisClient.Redis
          const project = yield* freshProject(1_000)
          const ids = yield* Effect.replicateEffect(pendingUpload(project, 100), 10)
          yield* Effect.forEach(ids, (id) => ask(project, id, 100))
          const strangers = Effect.forEach(
            Array.from({ length: 30 }, (_, index) => index),
            (index) => Effect.flip(ask(project, `s${index}`, 1)),
            { concurrency: 30 },
          )
          const flush = Effect.promise(() => commands.flushall())
          const [refusals] = yield* Effect.all([strangers, Effect.repeatN(flush, 3)], { concurrency: 2 })
          expect(refusals.every(({ _tag }) => _tag === "QuotaExceeded")).toBe(true)
          expect(yield* usage(project)).toEqual({ usedBytes: 0, reservedBytes: 1_000, limitBytes: 1_000 })
        }).pipe(Effect.provide(over(server.url)))
      }),
    )

    it.scopedLive("a Redis that is gone, or hangs, is a fault within 2 s, and is used again when it is back", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        yield* Effect.gen(function* () {
          const project = yield* freshProject(100)
          yield* ask(project, "a", 10)
          const away = Effect.flip(ask(project, "a", 20)).pipe(Effect.timeout("2 seconds"))
          yield* Effect.sync(() => server.pause())
          expect(yield* away).toMatchObject({ _tag: "DependencyUnavailable", dependency: "redis" })
          yield* Effect.sync(() => server.resume())
          expect((yield* answering(project)).limitBytes).toBe(100)
          yield* Effect.promise(() => server.kill9())
          expect(yield* away).toMatchObject({ _tag: "DependencyUnavailable", dependency: "redis" })
          yield* Effect.promise(() => server.start())
          expect(yield* answering(project)).toEqual({ usedBytes: 0, reservedBytes: 0, limitBytes: 100 })
        }).pipe(Effect.provide(over(server.url)))
      }),
    )

    const building = (url: string) =>
      Effect.exit(Effect.scoped(Layer.build(RedisClient.layer({ url: Redacted.make(url) })))).pipe(
        Effect.timeout("6 seconds"),
        Effect.map((exit) => (Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "started")),
      )

    it.scopedLive("a Redis that may evict is refused by name of the setting, without telling the url", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis({ maxmemoryPolicy: "allkeys-lru" })
        const told = yield* building(server.url.replace("redis://", "redis://default:s3cret@"))
        expect(told).not.toContain("s3cret")
        const refused = yield* building(server.url)
        expect(refused).toContain("noeviction")
        expect(refused).toContain("allkeys-lru")
      }),
    )

    it.scopedLive("wrong credentials are refused, for no waiting cures them", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        const admin = new IORedis(server.url)
        yield* Effect.promise(() => admin.config("SET", "requirepass", "right"))
        admin.disconnect()
        expect(yield* building(server.url)).toContain("DependencyUnavailable")
        expect(yield* building(server.url.replace("redis://", "redis://:wrong@"))).toContain("DependencyUnavailable")
        expect(yield* building(server.url.replace("redis://", "redis://:right@"))).toBe("started")
      }),
    )

    it.scopedLive("a start goes on while Redis is not there or does not answer, and uses it once it is", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis()
        for (const [away, back] of [
          [async () => server.pause(), async () => server.resume()],
          [server.stop, server.start],
        ] as const) {
          yield* Effect.promise(away)
          yield* Effect.gen(function* () {
            const counters = yield* QuotaCounters
            const project = yield* freshProject(100)
            expect(yield* Effect.flip(counters.ping)).toMatchObject({ dependency: "redis" })
            expect(yield* Effect.flip(ask(project, "a", 10))).toMatchObject({ _tag: "DependencyUnavailable" })
            yield* Effect.promise(back)
            expect((yield* answering(project)).limitBytes).toBe(100)
            expect(yield* ask(project, "a", 10)).toBe(10)
            yield* counters.ping
          }).pipe(Effect.provide(over(server.url)))
        }
      }),
    )

    it.scopedLive("one that may evict, seen later, serves on; its ping fails until the setting is right", () =>
      Effect.gen(function* () {
        const server = yield* ownRedis({ maxmemoryPolicy: "allkeys-lru" })
        yield* Effect.promise(() => server.stop())
        yield* Effect.gen(function* () {
          const counters = yield* QuotaCounters
          const { commands } = yield* RedisClient.Redis
          const project = yield* freshProject(100)
          yield* Effect.promise(() => server.start())
          expect((yield* answering(project)).limitBytes).toBe(100)
          const refused = yield* Effect.flip(counters.ping)
          expect(refused).toMatchObject({ dependency: "redis", cause: { message: "maxmemory-policy is allkeys-lru" } })
          expect(yield* ask(project, "a", 10)).toBe(10)
          yield* Effect.promise(() => commands.config("SET", "maxmemory-policy", "noeviction"))
          yield* counters.ping
        }).pipe(Effect.provide(over(server.url)))
      }),
    )
  })
}
