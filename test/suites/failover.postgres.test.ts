import { SqlClient } from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Redacted, Schedule } from "effect"
import pg from "pg"
import { afterAll, beforeAll, describe, inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import * as WakeupPostgres from "../../layers/Wakeup/Postgres.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import { type PostgresServer, startPostgres } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"

/** How long a statement may wait for a server that is gone, the machine's own slowness included. Milliseconds. */
const failsWithin = 3000

if (inject("postgresUrl") !== null)
  describe("another Postgres at the same address", { timeout: 60_000 }, () => {
    let former: PostgresServer
    let present: PostgresServer
    beforeAll(async () => {
      ;[former, present] = await Promise.all([startPostgres(), startPostgres()])
    })
    afterAll(() => Promise.all([former, present].map((server) => server?.dispose())))

    /** An address that leads to the former server until it is redirected; both run on when the test is over. */
    const address = Effect.acquireRelease(
      Effect.promise(() => startProxy({ host: "127.0.0.1", port: former.port })),
      (proxy) =>
        Effect.promise(() => {
          former.resume()
          return proxy.dispose()
        }),
    )
    const over = (port: number, poolSize = 4) =>
      Postgres.layer({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/postgres`), poolSize })

    /** Which server answers. */
    const ask = Effect.flatMap(SqlClient, (sql) =>
      Effect.map(sql<{ readonly port: number }>`select inet_server_port() as port`, (rows) => rows[0]?.port),
    )
    const fill = Effect.flatMap(SqlClient, (sql) =>
      Effect.all(
        Array.from({ length: 4 }, () => sql`select pg_sleep(0.2)`),
        { concurrency: 4 },
      ),
    )
    /** Twelve callers at once on four connections: each is told in time, or answered by the present server. */
    const nobodyHangs = Effect.gen(function* () {
      const outcomes = yield* Effect.all(
        Array.from({ length: 12 }, () => Effect.timed(Effect.either(ask))),
        { concurrency: 12 },
      )
      for (const [took, outcome] of outcomes) {
        expect(Duration.toMillis(took)).toBeLessThan(failsWithin)
        if (Either.isRight(outcome)) expect(outcome.right).toBe(present.port)
      }
    })
    const servedByPresent = Effect.gen(function* () {
      const [took, port] = yield* Effect.timed(ask)
      expect(port).toBe(present.port)
      expect(Duration.toMillis(took)).toBeLessThan(1000)
    })

    it.scopedLive("the former one is frozen and keeps its connections: nobody waits for it", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          yield* fill
          former.pause()
          proxy.redirect(present.port)
          yield* nobodyHangs
          yield* servedByPresent
        }).pipe(Effect.provide(over(proxy.port)))
      }),
    )

    it.scopedLive("connections that were being made when it froze do not take the places of later ones", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          expect(yield* ask).toBe(former.port)
          former.pause()
          const hanging = yield* Effect.fork(nobodyHangs)
          yield* Effect.sleep("400 millis")
          proxy.redirect(present.port)
          yield* hanging
          yield* servedByPresent
        }).pipe(Effect.provide(over(proxy.port)))
      }),
    )

    it.scopedLive("the address leads to it only after the former one was found away: back soon", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          yield* fill
          former.pause()
          expect(Either.isLeft(yield* Effect.either(ask))).toBe(true)
          yield* Effect.sleep("1 seconds")
          proxy.redirect(present.port)
          const [took] = yield* Effect.timed(
            Effect.repeat(Effect.either(ask), {
              until: Either.isRight,
              schedule: Schedule.spaced("20 millis"),
            }),
          )
          expect(Duration.toMillis(took)).toBeLessThan(2500)
          yield* servedByPresent
        }).pipe(Effect.provide(over(proxy.port)))
      }),
    )

    it.scopedLive("the former one lives on: once one connection leads elsewhere, all do", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient
          // One connection is free, and leads to the former server; a second one has to be made.
          expect(yield* ask).toBe(former.port)
          proxy.redirect(present.port)
          yield* Effect.all([sql`select pg_sleep(0.2)`, Effect.delay(ask, "50 millis")], { concurrency: 2 }).pipe(
            Effect.either,
          )
          const ports = yield* Effect.all([ask, ask, ask, ask], { concurrency: 4 })
          expect(new Set(ports)).toEqual(new Set([present.port]))
        }).pipe(Effect.provide(over(proxy.port)))
      }),
    )

    it.scopedLive("a statement that is late at the server in charge waits on", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient
          const late = sql`select pg_sleep(3.5)`
          yield* Effect.all([late, late], { concurrency: 2 })
        }).pipe(Effect.provide(over(proxy.port)))
      }),
    )

    it.scopedLive("so it does for a role that may not see its own session, as while a password is rotated", () =>
      Effect.gen(function* () {
        yield* Effect.acquireUseRelease(
          Effect.promise(async () => {
            const admin = new pg.Client({ connectionString: former.url })
            await admin.connect()
            return admin
          }),
          (admin) =>
            Effect.promise(async () => {
              await admin.query("create role owner nologin")
              await admin.query("create role rotated login in role owner")
              await admin.query("alter role rotated set role owner")
            }),
          (admin) => Effect.promise(() => admin.end()),
        )
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient
          const seen = yield* sql`select backend_start from pg_stat_activity where pid = pg_backend_pid()`
          expect(seen).toEqual([{ backend_start: null }])
          yield* sql`select pg_sleep(3.5)`
        }).pipe(
          Effect.provide(
            Postgres.layer({
              url: Redacted.make(`postgres://rotated@127.0.0.1:${former.port}/postgres`),
              poolSize: 1,
            }),
          ),
        )
      }),
    )

    it.scopedLive("a connection on which the server takes no writes any more is given up", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient
          const write = sql`create temporary table written (n integer) on commit drop`
          yield* sql`set default_transaction_read_only = on`
          yield* Effect.sleep("1100 millis")
          expect(yield* Effect.flip(write)).toMatchObject({ cause: { code: "25006" } })
          yield* Effect.sleep("50 millis")
          yield* write
        }).pipe(Effect.provide(over(proxy.port, 1)))
      }),
    )

    it.scopedLive("the listener of the former one listens to the present one", () =>
      Effect.gen(function* () {
        const proxy = yield* address
        const url = Redacted.make(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`)
        yield* Effect.gen(function* () {
          const wait = yield* (yield* Wakeup).listen
          yield* Effect.repeat(ask, Schedule.spaced("200 millis")).pipe(
            Effect.ignore,
            Effect.forever,
            Effect.forkScoped,
          )
          yield* wait(1000)
          former.pause()
          proxy.redirect(present.port)
          yield* Effect.sleep("5 seconds")
          yield* wait(10)
          const ringer = yield* Effect.acquireRelease(
            Effect.promise(async () => {
              const client = new pg.Client({ connectionString: present.url })
              await client.connect()
              return client
            }),
            (client) => Effect.promise(() => client.end()),
          )
          yield* Effect.fork(
            Effect.delay(
              Effect.promise(() => ringer.query("notify artifact_events, ''")),
              "50 millis",
            ),
          )
          const [took] = yield* Effect.timed(wait(5000))
          expect(Duration.toMillis(took)).toBeLessThan(3000)
        }).pipe(Effect.scoped, Effect.provide(WakeupPostgres.layer({ url })), Effect.provide(over(proxy.port)))
      }),
    )
  })
