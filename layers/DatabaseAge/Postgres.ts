import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { DatabaseAge } from "../../services/DatabaseAge.ts"
import { spanned } from "../../src/telemetry/Spans.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder } from "../MetadataStore/rows.ts"

const decodeAges = decoder(Schema.Struct({ transaction_ids: Schema.Int, multixacts: Schema.Int }))

/** The catalog's row of this database, on any SqlClient that speaks Postgres. */
export const layer: Layer.Layer<DatabaseAge, never, SqlClient.SqlClient> = Layer.effect(
  DatabaseAge,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    ages: sql`
      select age(datfrozenxid) as transaction_ids, mxid_age(datminmxid) as multixacts
      from pg_database where datname = current_database()`.pipe(
      Effect.flatMap((rows) => decodeAges(rows[0])),
      Effect.map(({ multixacts, transaction_ids }) => ({ transactionIds: transaction_ids, multixacts })),
      Effect.catchTag("SqlError", unavailable("DatabaseAge.ages")),
      spanned("DatabaseAge.ages"),
    ),
  })),
)
