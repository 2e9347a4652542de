import { randomUUID } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Queue, Redacted } from "effect"
import pg from "pg"
import { Wakeup } from "../../services/Wakeup.ts"

const channel = "artifact_events"
const reconnectMillis = 500
/** Between two NOTIFYs of a process. */
const spacing = "10 millis"

/**
 * Across pods by NOTIFY. The ring is a statement of its own after the commit, never part of it: Postgres takes a lock
 * over the whole database to commit a transaction that notifies, which would end group commit
 * (src/backend/commands/async.c, PreCommit_Notify). Rings that come right after one merge into the next.
 */
const make = (options: { readonly url: Redacted.Redacted }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const bell = yield* Queue.sliding<void>(1)
    const scope = yield* Effect.scope
    // A listener in this process was rung already, and does not listen to the echo.
    const own = randomUUID()
    let listeners = 0
    let state: "silent" | "ringing" | "again" = "silent"

    const notify = Effect.ignore(sql`select pg_notify(${channel}::text, ${own}::text)`)
    const ringOthers: Effect.Effect<void> = Effect.suspend(() => {
      state = "ringing"
      return Effect.flatMap(Effect.zipRight(notify, Effect.sleep(spacing)), () => {
        if (state === "again") return ringOthers
        state = "silent"
        return Effect.void
      })
    })
    const ring = Effect.suspend(() => {
      bell.unsafeOffer(undefined)
      // Whoever listens in this process is the one to be woken.
      if (listeners > 0) return Effect.void
      if (state === "silent") return Effect.asVoid(Effect.forkIn(ringOthers, scope))
      state = "again"
      return Effect.void
    })

    /** Holds one connection that listens, until it breaks. */
    const listening = Effect.scoped(
      Effect.gen(function* () {
        const client = yield* Effect.acquireRelease(
          Effect.sync(
            () =>
              new pg.Client({
                connectionString: Redacted.value(options.url),
                connectionTimeoutMillis: 2000,
                keepAlive: true,
                keepAliveInitialDelayMillis: 3000,
                application_name: "artifact-plane-listener",
              }),
          ),
          (opened) => Effect.sync(() => void opened.end().catch(() => {})),
        )
        yield* Effect.async<void>((resume) => {
          const lost = () => resume(Effect.void)
          client.on("error", lost).on("end", lost)
          client.on("notification", ({ payload }) => {
            if (payload !== own) bell.unsafeOffer(undefined)
          })
          client
            .connect()
            .then(() => client.query(`listen ${channel}`))
            // Something may have been rung while nobody listened.
            .then(() => bell.unsafeOffer(undefined))
            .catch(lost)
        })
      }),
    )

    return Wakeup.of({
      ring,
      listen: Effect.gen(function* () {
        yield* Effect.acquireRelease(
          Effect.sync(() => listeners++),
          () => Effect.sync(() => listeners--),
        )
        yield* Effect.forkScoped(Effect.forever(Effect.zipRight(listening, Effect.sleep(reconnectMillis))))
        return (millis: number) => Effect.asVoid(Effect.timeoutOption(Queue.take(bell), millis))
      }),
    })
  })

/** One more connection to the database while this process listens. */
export const layer = (options: { readonly url: Redacted.Redacted }): Layer.Layer<Wakeup, never, SqlClient.SqlClient> =>
  Layer.scoped(Wakeup, make(options))
