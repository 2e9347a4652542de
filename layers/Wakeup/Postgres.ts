import { randomUUID } from "node:crypto"
import { Socket } from "node:net"
import * as SqlClient from "@effect/sql/SqlClient"
import { Deferred, Effect, Layer, Queue, Redacted } from "effect"
import pg from "pg"
import { Wakeup } from "../../services/Wakeup.ts"
import { type Backend, ownBackend, knownHere } from "../clients/Backends.ts"
import { sessionOptions } from "../clients/sessionOptions.ts"

const channel = "artifact_events"
const reconnectMillis = 500
/** How long the listener's connection may take to be made, and each of its statements; it sends none while it listens. */
const answerMillis = 2000
/** How often the server that serves the requests is asked whether it is also the one that is listened to. */
const checkMillis = 1000
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

    /** Whether the requests' server has the listener's connection; a server that does not answer says nothing. */
    const sameServer = (backend: Backend) =>
      sql.unsafe<{ readonly known: boolean }>(knownHere, [backend.server, backend.pid, backend.started]).pipe(
        Effect.map(([row]) => row?.known === true),
        Effect.orElseSucceed(() => true),
      )

    /** Opens a connection that listens; `lost` runs when it breaks. */
    const listener = (lost: () => void) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const socket = new Socket()
          const client = new pg.Client({
            connectionString: Redacted.value(options.url),
            stream: () => socket,
            connectionTimeoutMillis: answerMillis,
            query_timeout: answerMillis,
            keepAlive: true,
            keepAliveInitialDelayMillis: 3000,
            application_name: "artifact-plane-listener",
            options: sessionOptions,
          })
          client.on("error", lost).on("end", lost)
          client.on("notification", ({ payload }) => {
            if (payload !== own) bell.unsafeOffer(undefined)
          })
          return { client, socket }
        }),
        // A server that is gone does not take its leave either.
        ({ client, socket }) =>
          Effect.sync(() => {
            client.end().catch(() => {})
            socket.destroySoon()
          }),
      )

    /** Holds one connection that listens, until it breaks or the requests are served by another server. */
    const listening = Effect.scoped(
      Effect.gen(function* () {
        const broken = yield* Deferred.make<void>()
        const { client } = yield* listener(() => Deferred.unsafeDone(broken, Effect.void))
        const backend = yield* Effect.tryPromise(async () => {
          await client.connect()
          await client.query(`listen ${channel}`)
          return (await client.query<Backend>(ownBackend)).rows[0]
        })
        // Something may have been rung while nobody listened.
        bell.unsafeOffer(undefined)
        if (backend === undefined) return
        const moved = Effect.repeat(Effect.delay(sameServer(backend), checkMillis), { while: (same) => same })
        yield* Effect.raceFirst(Deferred.await(broken), moved)
      }),
    )

    return Wakeup.of({
      ring,
      listen: Effect.gen(function* () {
        yield* Effect.acquireRelease(
          Effect.sync(() => listeners++),
          () => Effect.sync(() => listeners--),
        )
        yield* Effect.forkScoped(
          Effect.forever(Effect.zipRight(Effect.ignore(listening), Effect.sleep(reconnectMillis))),
        )
        return (millis: number) => Effect.asVoid(Effect.timeoutOption(Queue.take(bell), millis))
      }),
    })
  })

/** One more connection to the database while this process listens. */
export const layer = (options: { readonly url: Redacted.Redacted }): Layer.Layer<Wakeup, never, SqlClient.SqlClient> =>
  Layer.scoped(Wakeup, make(options))
