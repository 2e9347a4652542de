import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Redacted, Scope } from "effect"
import { describe, inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"

const postgresUrl = inject("postgresUrl")

if (postgresUrl !== null)
  describe("a caller who leaves while a statement runs", () => {
    const pool = (poolSize: number) => Postgres.layer({ url: Redacted.make(postgresUrl), poolSize })
    const select = (name: string) =>
      Effect.flatMap(SqlClient.SqlClient, (sql) => sql<{ readonly x: string }>`select ${name}::text as x`)

    it.scopedLive("takes no other caller's statement along", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const failures: Array<string> = []
        const others = yield* Effect.fork(
          Effect.forever(
            Effect.matchEffect(sql`select pg_sleep(0.001) where true = ${true}`, {
              onFailure: ({ cause }) => Effect.sync(() => void failures.push(String(cause))),
              onSuccess: () => Effect.void,
            }),
          ),
        )
        for (let turn = 0; turn < 400; turn++) {
          const leaving = yield* Effect.fork(sql`select pg_sleep(0.002) where true = ${true}`)
          // About when the statement ends anyway.
          yield* Effect.sleep(1 + (turn % 3))
          yield* Fiber.interrupt(leaving)
        }
        yield* Fiber.interrupt(others)
        expect(failures).toEqual([])
      }).pipe(Effect.provide(pool(2))),
    )

    it.scopedLive("leaves a connection that the next one can use at once", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const leaving = yield* Effect.fork(sql`select pg_sleep(0.5) where true = ${true}`)
        yield* Effect.sleep(100)
        yield* Fiber.interrupt(leaving)
        const rows = yield* Effect.all([select("a"), select("b"), select("c")], { concurrency: 3 })
        expect(rows.flat().map(({ x }) => x)).toEqual(["a", "b", "c"])
      }).pipe(Effect.provide(pool(1))),
    )

    it.scopedLive("leaves no connection behind that it was about to be given", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        for (let turn = 0; turn < 5; turn++) {
          const leaving = yield* Effect.fork(Effect.scoped(Effect.asVoid(sql.reserve)))
          yield* Effect.yieldNow()
          yield* Fiber.interrupt(leaving)
        }
        const rows = yield* Effect.timeoutOption(select("a"), "10 seconds")
        expect(rows).toEqual(Option.some([{ x: "a" }]))
      }).pipe(Effect.provide(pool(1))),
    )

    it.live("does not keep the pool from being let go", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(pool(1), scope)
        const leaving = yield* Effect.fork(
          Effect.provide(
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(4.9)`),
            context,
          ),
        )
        yield* Effect.sleep(200)
        yield* Fiber.interrupt(leaving)
        const closing = yield* Effect.forkDaemon(Scope.close(scope, Exit.void))
        expect(Option.isSome(yield* Effect.timeoutOption(Fiber.await(closing), "3500 millis"))).toBe(true)
      }),
    )
  })
