import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { ActorMessages } from "../../services/ActorMessages.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const decodeCount = decoder(Schema.Struct({ count: Int8 }))

/**
 * The engine's tables have no times of their own: an id is a snowflake, milliseconds since 2025 above 22 lower bits
 * (@effect/cluster, Snowflake.ts).
 */
const make = Effect.map(SqlClient.SqlClient, (sql) =>
  ActorMessages.of({
    prune: traced("ActorMessages.prune")(
      function* (ageSeconds: number) {
        const rows = yield* sql`
          with gone as (
            delete from cluster_messages where processed
              and id < ((extract(epoch from clock_timestamp()) - ${ageSeconds}::double precision) * 1000
                - 1735689600000)::bigint << 22
            returning request_id
          ), answers as (
            delete from cluster_replies where request_id in (select request_id from gone)
          )
          select count(*) as count from gone`
        return (yield* decodeCount(rows[0])).count
      },
      Effect.catchTag("SqlError", unavailable("ActorMessages.prune")),
    ),
  }),
)

/** The tables `cluster_messages` and `cluster_replies`. */
export const layer: Layer.Layer<ActorMessages, never, SqlClient.SqlClient> = Layer.effect(ActorMessages, make)
