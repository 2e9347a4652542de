import { Sharding } from "@effect/cluster"
import { expect, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Fiber, Layer, Redacted } from "effect"
import { inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { migrate, migrateEngine } from "../../layers/migrations/Migrations.ts"
import * as Production from "../../layers/stacks/Production.ts"
import * as Config from "../../src/Config.ts"
import { Settings } from "../../src/Config.ts"
import { freePort } from "../support/ports.ts"
import { createDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"

const postgresUrl = inject("postgresUrl")

/** The settings of a node, and where its database is. */
const settingsOf = (databaseUrl: string, runner: Record<string, string>) =>
  Effect.gen(function* () {
    const environment = new Map([
      ["DATABASE_URL", databaseUrl],
      ["REDIS_URL", "redis://127.0.0.1"],
      ["URL_SIGNING_SECRET", "s".repeat(64)],
      ...Object.entries(runner),
    ])
    const provider = Layer.setConfigProvider(ConfigProvider.fromMap(environment))
    const settings = yield* Effect.provide(Settings, Layer.provide(Config.layer, provider))
    return { settings, urls: settings.production ?? (yield* Effect.dieMessage("not a production node")) }
  })

if (postgresUrl !== null)
  it.scopedLive.each([
    ["one process", false],
    ["one pod of many", true],
  ] as const)(
    "the actors of %s wait for a Postgres that goes away while they start",
    ([, many]) =>
      Effect.gen(function* () {
        const direct = new URL(yield* Effect.promise(() => createDatabase({ url: postgresUrl })))
        yield* Effect.provide(
          Effect.zipRight(migrate, migrateEngine),
          Postgres.layer({ url: Redacted.make(direct.href), poolSize: 3 }),
        )
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy({ host: direct.hostname, port: Number(direct.port) })),
          (proxy) => Effect.promise(proxy.dispose),
        )
        yield* Effect.promise(proxy.refuse)
        const url = new URL(direct)
        url.port = String(proxy.port)
        const port = String(yield* Effect.promise(freePort))
        const runner = many ? { RUNNER_HOST: "127.0.0.1", RUNNER_PORT: port } : {}
        const { settings, urls } = yield* settingsOf(url.href, runner)

        const starting = yield* Effect.fork(Layer.build(Production.cluster(settings, urls)))
        yield* Effect.sleep("4 seconds")
        expect(starting.unsafePoll()).toBe(null)
        yield* Effect.promise(proxy.resume)
        expect(Context.get(yield* Fiber.join(starting), Sharding.Sharding)).toBeDefined()
      }),
    60_000,
  )
