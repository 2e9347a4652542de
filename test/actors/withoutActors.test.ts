import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { HttpServer as Listening } from "@effect/platform"
import { expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { migrate, migrateEngine } from "../../layers/migrations/Migrations.ts"
import * as Production from "../../layers/stacks/Production.ts"
import * as Actors from "../../src/actors/Actors.ts"
import * as Config from "../../src/Config.ts"
import { Settings } from "../../src/Config.ts"
import * as HttpServer from "../../src/http/HttpServer.ts"
import * as Readiness from "../../src/http/Readiness.ts"
import { call, makeTenant, publish } from "../faults/plane.ts"
import { createDatabase } from "../support/postgres.ts"
import { privateDir } from "../support/processes.ts"

const postgresUrl = inject("postgresUrl")
const redisUrl = inject("redisUrl")

if (postgresUrl !== null && redisUrl !== null)
  it.scopedLive(
    "with all actors down the node publishes, reads, deletes and keeps the quota; only the relay waits",
    () =>
      Effect.gen(function* () {
        const home = yield* Effect.acquireRelease(
          Effect.sync(() => privateDir("no-actors")),
          (folder) => Effect.sync(folder.remove),
        )
        const url = yield* Effect.promise(() => createDatabase({ url: postgresUrl }))
        const streamKey = `events-${randomBytes(6).toString("hex")}`
        const adminKey = `mbx_${randomBytes(32).toString("hex")}`
        yield* Effect.provide(
          Effect.zipRight(migrate, migrateEngine),
          Postgres.layer({ url: Redacted.make(url), poolSize: 3 }),
        )
        const environment = ConfigProvider.fromMap(
          new Map([
            ["PORT", "0"],
            ["DATABASE_URL", url],
            ["REDIS_URL", redisUrl],
            ["DATA_DIR", home.path],
            ["URL_SIGNING_SECRET", randomBytes(32).toString("hex")],
            ["BOOTSTRAP_API_KEY", adminKey],
            ["EVENT_STREAM_KEY", streamKey],
          ]),
        )
        const settings = yield* Effect.provide(
          Settings,
          Layer.provide(Config.layer, Layer.setConfigProvider(environment)),
        )
        if (settings.production === undefined) return expect.fail("these are the settings of a production node")
        const services = yield* Layer.build(Production.layer(settings, settings.production))
        const edge = yield* Layer.build(
          HttpServer.layer.pipe(
            Layer.provide(Readiness.layer({ redis: true })),
            Layer.provide(Layer.succeedContext(services)),
          ),
        )
        const { address } = yield* Effect.provide(Listening.HttpServer, edge)
        const baseUrl = `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}`
        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis(redisUrl)),
          (opened) => Effect.sync(() => opened.disconnect()),
        )

        yield* Effect.promise(async () => {
          const tenant = await makeTenant(baseUrl, adminKey, { quotaBytes: 1000 })
          const at = `${baseUrl}/v1/projects/${tenant.project}/artifacts`
          const file = (size: number) => publish(baseUrl, tenant, { name: "a", bytes: randomBytes(size) })
          const first = await file(900)
          expect(first.status).toBe(201)
          expect((await file(200)).body.error.code).toBe("quota_exceeded")
          const read = await fetch(`${at}/${first.body.id}/content`, {
            headers: { authorization: `Bearer ${tenant.key}` },
          })
          expect((await read.arrayBuffer()).byteLength).toBe(900)
          expect((await call(`${at}/${first.body.id}`, tenant.key, { method: "DELETE" })).status).toBe(204)
          expect((await file(1000)).status).toBe(201)
          await sleep(500)
          expect(await redis.xlen(streamKey)).toBe(0)
        })

        yield* Layer.build(
          Actors.layer(settings).pipe(
            Layer.provide(Production.cluster(settings, settings.production)),
            Layer.provide(Layer.succeedContext(services)),
          ),
        )
        const length = Effect.promise(() => redis.xlen(streamKey))
        yield* Effect.repeat(Effect.delay(length, "50 millis"), { until: (found) => found === 3 }).pipe(
          Effect.timeout("15 seconds"),
        )
      }),
    60_000,
  )
