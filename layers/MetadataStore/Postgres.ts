import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { makeArtifacts } from "./postgresArtifacts.ts"
import { makeUploads } from "./postgresUploads.ts"
import { spanned } from "../../src/telemetry/Spans.ts"

const make = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const uploads = yield* makeUploads(defaultQuotaBytes)
    const artifacts = yield* makeArtifacts(defaultQuotaBytes)

    const ping = sql`select 1`.pipe(
      Effect.asVoid,
      Effect.catchTag("SqlError", unavailable("MetadataStore.ping")),
      spanned("MetadataStore.ping"),
    )

    return MetadataStore.of({ ...uploads, ...artifacts, ping })
  })

/** On any SqlClient that speaks Postgres. `defaultQuotaBytes`: the limit of projects that have none of their own. */
export const layer = (options: {
  readonly defaultQuotaBytes: number
}): Layer.Layer<MetadataStore, never, SqlClient.SqlClient> =>
  Layer.effect(MetadataStore, make(options.defaultQuotaBytes))
