import { SqlClient } from "@effect/sql"
import { Effect, Layer } from "effect"
import { inject } from "vitest"
import * as PostgresLog from "../../layers/EventBus/PostgresLog.ts"
import { eventBusSuite } from "./EventBus.ts"
import { embeddedLayer, postgresLayer } from "./sql.ts"

/** The one log of the database, emptied. */
const fresh = (maxLength: number) =>
  PostgresLog.layer({ maxLength }).pipe(
    Layer.provide(
      Layer.effectDiscard(
        Effect.flatMap(SqlClient.SqlClient, (sql) =>
          Effect.zipRight(sql`delete from event_log`, sql`update event_log_head set last = 0`),
        ),
      ),
    ),
  )

eventBusSuite("PostgresLog, PGlite", fresh, embeddedLayer)

const url = inject("postgresUrl")
if (url !== null) eventBusSuite("PostgresLog, native Postgres", fresh, postgresLayer(url))
