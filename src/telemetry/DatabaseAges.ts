import { Effect, Layer, Metric } from "effect"
import { DatabaseAge } from "../../services/DatabaseAge.ts"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const transactionIds = gauge(
  "artifact_postgres_transaction_id_age",
  "Transactions since the oldest row that is not frozen. At 2^31 Postgres takes no more writes.",
)
const multixacts = gauge(
  "artifact_postgres_multixact_age",
  "Row locks held by several, since the oldest that is kept. At 2^31 Postgres takes no more writes.",
)

/** They move by thousands a minute at the most, and matter by hundreds of millions. */
const every = "1 minute"
const timeout = "2 seconds"

/** What the database says, once a minute; NaN, which is not known, while it is away. */
const refresh = Effect.gen(function* () {
  const { ages } = yield* DatabaseAge
  const age = yield* ages.pipe(
    Effect.timeout(timeout),
    Effect.catchAllCause(() => Effect.succeed({ transactionIds: Number.NaN, multixacts: Number.NaN })),
  )
  transactionIds.unsafeUpdate(age.transactionIds, [])
  multixacts.unsafeUpdate(age.multixacts, [])
})

export const layer = Layer.scopedDiscard(
  Effect.forkScoped(Effect.forever(Effect.zipRight(refresh, Effect.sleep(every)))),
)
