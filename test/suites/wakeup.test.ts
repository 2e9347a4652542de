import { expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted } from "effect"
import pg from "pg"
import { inject } from "vitest"
import * as Postgres from "../../layers/clients/Postgres.ts"
import * as WakeupPostgres from "../../layers/Wakeup/Postgres.ts"
import * as WakeupProcess from "../../layers/Wakeup/Process.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import { wakeupSuite } from "./Wakeup.ts"

wakeupSuite("Process", WakeupProcess.layer)

const text = inject("postgresUrl")
if (text !== null) {
  const url = Redacted.make(text)
  const overPostgres = () =>
    WakeupPostgres.layer({ url }).pipe(Layer.provide(Postgres.layer({ url, poolSize: 2 })), Layer.orDie)
  wakeupSuite("Postgres", overPostgres(), Layer.fresh(overPostgres()))

  it.scopedLive("a listener whose connection is cut listens again", () =>
    Effect.gen(function* () {
      const wait = yield* (yield* Wakeup).listen
      yield* wait(500)
      const admin = new pg.Client({ connectionString: text })
      yield* Effect.promise(() => admin.connect())
      const cut = yield* Effect.promise(() =>
        admin.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'artifact-plane-listener'",
        ),
      )
      expect(cut.rowCount).toBeGreaterThan(0)
      yield* Effect.sleep("1500 millis")
      yield* wait(10)
      yield* Effect.fork(
        Effect.delay(
          Effect.promise(() => admin.query("select pg_notify('artifact_events', '')")),
          "50 millis",
        ),
      )
      const [took] = yield* Effect.timed(wait(5000))
      expect(Duration.toMillis(took)).toBeLessThan(2000)
      yield* Effect.promise(() => admin.end())
    }).pipe(Effect.provide(overPostgres())),
  )
}
