import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer } from "effect"
import { ActorMessages } from "../../services/ActorMessages.ts"
import type { PruneStep } from "../../services/Pruning.ts"
import { decodePruned } from "../clients/pruned.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/**
 * The engine's tables have no times of their own: an id is a snowflake, milliseconds since 2025 above 22 lower bits
 * (@effect/cluster, Snowflake.ts).
 */
const make = Effect.map(SqlClient.SqlClient, (sql) =>
  ActorMessages.of({
    prune: traced("ActorMessages.prune")(
      function* (ageSeconds: number, { after, limit }: PruneStep) {
        const rows = yield* sql`
          with looked as materialized (
            select id, ctid as place, processed from cluster_messages
            where id > coalesce(${after ?? null}::bigint, 0)
              and id < ((extract(epoch from statement_timestamp()) - ${ageSeconds}::double precision) * 1000
                - 1735689600000)::bigint << 22
            order by id limit ${limit}::integer
          ), gone as (
            delete from cluster_messages where ctid = any(array(select place from looked where processed))
            returning request_id
          ), answers as (
            delete from cluster_replies where request_id = any(array(select request_id from gone))
          )
          select (select count(*) from gone) as removed,
            case when count(*) = ${limit}::integer then max(id)::text end as next
          from looked`
        return yield* decodePruned(rows)
      },
      Effect.catchTag("SqlError", unavailable("ActorMessages.prune")),
    ),
  }),
)

/** The tables `cluster_messages` and `cluster_replies`. */
export const layer: Layer.Layer<ActorMessages, never, SqlClient.SqlClient> = Layer.effect(ActorMessages, make)
