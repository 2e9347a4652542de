import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { countedAtMost } from "../../services/Counting.ts"
import { parkedAfter, RemovalQueue } from "../../services/RemovalQueue.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"

const decodeTaken = decoder(Schema.Array(Schema.Struct({ blob_key: Schema.String, attempts: Schema.Int })))
const decodeBacklog = decoder(Schema.Struct({ waiting: Int8, parked: Int8 }))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  /** The pause doubles from 1 s to 5 min, and is an hour for those that are parked; it starts when the removal is handed out, so that a dead taker's comes back. */
  const take = traced("RemovalQueue.take")(
    function* (limit: number) {
      const rows = yield* sql`
        update removals set attempts = attempts + 1,
          next_attempt_at = clock_timestamp() + interval '1 second'
            * case when attempts + 1 >= ${parkedAfter}::integer then 3600 else least(300, power(2, least(attempts, 9))) end
        where blob_key in (
          select blob_key from removals where next_attempt_at <= statement_timestamp()
          order by next_attempt_at limit ${limit}::integer for update skip locked)
        returning blob_key, attempts`
      return (yield* decodeTaken(rows)).map(({ attempts, blob_key }) => ({ blobKey: blob_key, attempt: attempts }))
    },
    Effect.catchTag("SqlError", unavailable("RemovalQueue.take")),
  )

  const confirm = traced("RemovalQueue.confirm")(
    function* (blobKey: string, attempt?: number) {
      yield* sql`
        delete from removals where blob_key = ${blobKey}::text and attempts = coalesce(${attempt ?? null}::integer, attempts)`
    },
    Effect.catchTag("SqlError", unavailable("RemovalQueue.confirm")),
  )

  // The number in the text, so that the index of the parked ones is known to hold all of them.
  const backlog = sql`
    select (select count(*) from (select 1 from removals limit ${countedAtMost}::integer) as found) as waiting,
      (select count(*) from (
        select 1 from removals where attempts >= ${sql.literal(String(parkedAfter))} limit ${countedAtMost}::integer
      ) as found) as parked`.pipe(
    Effect.flatMap((rows) => decodeBacklog(rows[0])),
    Effect.catchTag("SqlError", unavailable("RemovalQueue.backlog")),
    spanned("RemovalQueue.backlog"),
  )

  return RemovalQueue.of({ take, confirm, backlog })
})

/** The table `removals`, on any SqlClient that speaks Postgres. */
export const layer: Layer.Layer<RemovalQueue, never, SqlClient.SqlClient> = Layer.effect(RemovalQueue, make)
