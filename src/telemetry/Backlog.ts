import { Effect, Layer, Metric } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const lagRows = gauge("artifact_outbox_lag_rows", "Events that wait for the stream.")
const lagSeconds = gauge("artifact_outbox_lag_seconds", "Age of the oldest event that waits for the stream.")
const waiting = gauge("artifact_removals_waiting", "Objects of deleted artifacts that are still to be removed.")
const parked = gauge("artifact_removals_parked", "Removals that failed so often that somebody should look.")
const held = gauge(
  "artifact_store_removals_held",
  "1 while objects that the database does not know are not removed, for it may be older than the store.",
)

/** How often the database is asked, and how long it may take, in seconds. */
const every = "5 seconds"
const patience = "2 seconds"

/** What the database alone knows. While it is away these are NaN: not known, rather than as they last were. */
export const refreshBacklog = Effect.gen(function* () {
  const outbox = yield* Outbox
  const removals = yield* RemovalQueue
  const guard = yield* StoreGuard
  const holding = Effect.map(guard.hold, (hold) => (hold === undefined ? 0 : 1))
  const [lag, backlog, holds] = yield* Effect.all([outbox.lag, removals.backlog, holding]).pipe(
    Effect.timeout(patience),
    Effect.catchAllCause(() =>
      Effect.succeed([
        { rows: Number.NaN, seconds: Number.NaN },
        { waiting: Number.NaN, parked: Number.NaN },
        Number.NaN,
      ] as const),
    ),
  )
  lagRows.unsafeUpdate(lag.rows, [])
  lagSeconds.unsafeUpdate(lag.seconds, [])
  waiting.unsafeUpdate(backlog.waiting, [])
  parked.unsafeUpdate(backlog.parked, [])
  held.unsafeUpdate(holds, [])
})

/** Keeps them fresh apart from scrapes, so that a scrape never waits for the database. */
export const layer = Layer.scopedDiscard(
  Effect.forkScoped(Effect.forever(Effect.zipRight(refreshBacklog, Effect.sleep(every)))),
)
