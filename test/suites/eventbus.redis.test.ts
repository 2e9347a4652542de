import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule, Stream } from "effect"
import { inject } from "vitest"
import * as RedisClient from "../../layers/clients/Redis.ts"
import * as RedisStream from "../../layers/EventBus/RedisStream.ts"
import { EventBus } from "../../services/EventBus.ts"
import { startRedis } from "../support/redis.ts"
import { entries, entry, eventBusSuite } from "./EventBus.ts"

const url = inject("redisUrl")

const client = (at: string) => RedisClient.layer({ url: Redacted.make(at) })
const bus = (maxLength: number) =>
  Layer.unwrapEffect(Effect.sync(() => RedisStream.layer({ streamKey: `events:${crypto.randomUUID()}`, maxLength })))

if (url !== null) {
  eventBusSuite("RedisStream", bus, client(url))

  describe("EventBus: RedisStream, for consumers and in faults", () => {
    it.scopedLive("an entry is `<sequence>-0` with the fields id, type, project, payload", () =>
      Effect.gen(function* () {
        const { commands } = yield* RedisClient.Redis
        const streamKey = `events:${crypto.randomUUID()}`
        yield* Effect.gen(function* () {
          yield* (yield* EventBus).append(0, [entry(7)])
        }).pipe(Effect.provide(RedisStream.layer({ streamKey, maxLength: 10 })))
        const { id, payload, project, type } = entry(7)
        expect(yield* Effect.promise(() => commands.xrange(streamKey, "-", "+"))).toEqual([
          ["7-0", ["id", id, "type", type, "project", project, "payload", payload]],
        ])
      }).pipe(Effect.provide(client(url))),
    )

    it.scopedLive("the top survives the removal of every entry", () =>
      Effect.gen(function* () {
        const { commands } = yield* RedisClient.Redis
        const streamKey = `events:${crypto.randomUUID()}`
        yield* Effect.gen(function* () {
          const stream = yield* EventBus
          yield* stream.append(0, entries(1, 3))
          yield* Effect.promise(() => commands.xtrim(streamKey, "MAXLEN", 0))
          expect(yield* stream.top).toBe(3)
          expect(yield* stream.append(0, [entry(1)])).toEqual({ _tag: "Elsewhere", top: 3 })
          expect(yield* stream.append(3, [entry(4)])).toEqual({ _tag: "Appended" })
        }).pipe(Effect.provide(RedisStream.layer({ streamKey, maxLength: 10 })))
      }).pipe(Effect.provide(client(url))),
    )

    it.scopedLive("a Redis that dies or hangs ends a subscription by failure, and the next one goes on", () =>
      Effect.gen(function* () {
        const server = yield* Effect.acquireRelease(
          Effect.promise(() => startRedis({ appendOnly: true })),
          (own) => Effect.promise(() => own.dispose()),
        )
        yield* Effect.gen(function* () {
          const stream = yield* EventBus
          yield* stream.append(0, [entry(1)])
          const follow = Effect.fork(Effect.flip(Stream.runDrain(stream.subscribe(0))))
          const failure = <A, E>(fiber: Fiber.Fiber<A, E>) => Fiber.join(fiber).pipe(Effect.timeout("6 seconds"))
          const hung = yield* follow
          yield* Effect.sleep(200)
          server.pause()
          expect(yield* failure(hung)).toMatchObject({ _tag: "DependencyUnavailable", dependency: "redis" })
          server.resume()
          const cut = yield* follow
          yield* Effect.sleep(200)
          yield* Effect.promise(() => server.kill9())
          expect(yield* failure(cut)).toMatchObject({ _tag: "DependencyUnavailable", dependency: "redis" })
          yield* Effect.promise(() => server.start())
          yield* Effect.retry(
            stream.append(1, [entry(2)]),
            Schedule.spaced(50).pipe(Schedule.compose(Schedule.recurs(100))),
          )
          expect([...(yield* Stream.runCollect(Stream.take(stream.subscribe(0), 2)))]).toEqual(entries(1, 2))
        }).pipe(Effect.provide(Layer.provide(bus(100), client(server.url))))
      }),
    )
  })
}
