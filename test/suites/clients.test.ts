import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { describe, inject } from "vitest"
import * as DataDirLock from "../../layers/clients/DataDirLock.ts"
import * as Postgres from "../../layers/clients/Postgres.ts"
import { titleOf } from "../../layers/migrations/Migration.ts"
import * as Migrations from "../../layers/migrations/Migrations.ts"
import * as Redis from "../../layers/clients/Redis.ts"
import { createDatabase } from "../support/postgres.ts"
import { privateDir, spawnRecorded } from "../support/processes.ts"

const postgresUrl = inject("postgresUrl")
const redisUrl = inject("redisUrl")

describe("DataDirLock", () => {
  it.scopedLive("one process holds a folder, another is refused in one sentence, and a killed one holds nothing", () =>
    Effect.gen(function* () {
      const home = yield* Effect.acquireRelease(
        Effect.sync(() => privateDir("lock")),
        (dir) => Effect.sync(() => dir.remove()),
      )
      const dataDir = join(home.path, "data")
      const holder = yield* Effect.acquireRelease(
        Effect.promise(() => spawnRecorded(process.execPath, [join(import.meta.dirname, "holdLock.ts"), dataDir])),
        (spawned) => Effect.sync(() => spawned.child.kill("SIGKILL")),
      )
      while (!holder.logs().includes("held") && holder.running()) yield* Effect.sleep("20 millis")
      expect(holder.logs()).toContain("held")
      const take = Effect.scoped(Layer.build(DataDirLock.layer({ dataDir })))
      expect(yield* Effect.flip(take)).toMatchObject({
        _tag: "DataDirInUse",
        message: `Another process is using DATA_DIR "${dataDir}": stop it, or set another DATA_DIR.`,
      })
      holder.child.kill("SIGKILL")
      yield* Effect.promise(() => holder.ended)
      yield* take
      yield* take
    }),
  )
})

if (redisUrl !== null)
  describe("Redis", () => {
    const beAway = () => {
      const until = performance.now() + 1500
      while (performance.now() < until);
    }
    it.scopedLive.each(["before it sends", "before it reads"])(
      "a pause of this process, %s, is none of the server",
      (when) =>
        Effect.gen(function* () {
          const { commands } = yield* Redis.Redis
          yield* Effect.promise(() => commands.ping())
          const answers = Promise.all([commands.ping(), commands.ping()])
          // What a turn of the event loop asks for is sent at its end.
          if (when === "before it sends") beAway()
          else setImmediate(beAway)
          expect(yield* Effect.promise(() => answers)).toEqual(["PONG", "PONG"])
        }).pipe(Effect.provide(Redis.layer({ url: Redacted.make(redisUrl) }))),
    )
  })

if (postgresUrl !== null)
  describe("Migrations", () => {
    it.live("two nodes may migrate at once: each step is applied once, and the check passes afterwards only", () =>
      Effect.gen(function* () {
        const url = Redacted.make(yield* Effect.promise(() => createDatabase({ url: postgresUrl })))
        const node = <A, E>(body: Effect.Effect<A, E, Layer.Layer.Success<ReturnType<typeof Postgres.layer>>>) =>
          Effect.provide(body, Postgres.layer({ url, poolSize: 3 }))
        expect(yield* Effect.flip(node(Migrations.check))).toMatchObject({ _tag: "SchemaBehind" })
        const applied = yield* Effect.all([node(Migrations.migrate), node(Migrations.migrate)], { concurrency: 2 })
        expect(applied.flat()).toEqual(Migrations.migrations.map(titleOf))
        expect(yield* Effect.flip(node(Migrations.check))).toMatchObject({ _tag: "SchemaBehind" })
        yield* Effect.all([node(Migrations.migrateEngine), node(Migrations.migrateEngine)], { concurrency: 2 })
        yield* node(Migrations.check)
      }),
    )
  })
