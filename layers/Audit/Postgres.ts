import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { Audit } from "../../services/Audit.ts"
import { ArtifactId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { traced } from "../../src/telemetry/Spans.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"

const decodeReady = decoder(
  Schema.Array(
    Schema.Struct({ id: ArtifactId, project: ProjectHandle, blob_key: Schema.String, size: Int8, sha256: Sha256 }),
  ),
)
const decodeIds = decoder(Schema.Array(Schema.Struct({ id: ArtifactId })))
const decodeUsage = decoder(
  Schema.Array(
    Schema.Struct({
      project: ProjectHandle,
      booked_bytes: Int8,
      booked_count: Int8,
      summed_bytes: Int8,
      summed_count: Int8,
    }),
  ),
)
const decodeRecounted = decoder(Schema.Struct({ changed: Schema.Boolean }))
const decodePlaces = decoder(Schema.Array(Schema.Struct({ id: Schema.String, sequence: Int8 })))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const told = (ids: ReadonlyArray<string>) =>
    sql`select id from jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb) as told(id)`

  return Audit.of({
    ready: traced("Audit.ready")(
      function* (after, limit) {
        const rows = yield* sql`
          select id, project, blob_key, size, sha256 from artifacts
          where id > ${after ?? ""}::text and state = 'ready' order by id limit ${limit}::integer`
        return (yield* decodeReady(rows)).map(({ blob_key, ...row }) => ({ ...row, blobKey: blob_key }))
      },
      Effect.catchTag("SqlError", unavailable("Audit.ready")),
    ),
    stillReady: traced("Audit.stillReady")(
      function* (ids) {
        if (ids.length === 0) return []
        const rows = yield* sql`select id from artifacts where id in (${told(ids)}) and state = 'ready'`
        return (yield* decodeIds(rows)).map(({ id }) => id)
      },
      Effect.catchTag("SqlError", unavailable("Audit.stillReady")),
    ),
    // One statement has one snapshot: a commit or a delete is in both sums or in none.
    usage: traced("Audit.usage")(
      function* (after, limit) {
        const rows = yield* sql`
          select p.handle as project, p.used_bytes as booked_bytes, p.artifact_count as booked_count,
            coalesce(own.bytes, 0)::bigint as summed_bytes, coalesce(own.items, 0) as summed_count
          from (
            select handle, used_bytes, artifact_count from projects
            where handle > ${after ?? ""}::text order by handle limit ${limit}::integer) as p,
            lateral (
              select sum(coalesce(a.charged_bytes, a.size)) as bytes, count(*) as items from artifacts as a
              where a.project = p.handle and a.state = 'ready') as own
          order by p.handle`
        return (yield* decodeUsage(rows)).map((row) => ({
          project: row.project,
          booked: { bytes: row.booked_bytes, count: row.booked_count },
          summed: { bytes: row.summed_bytes, count: row.summed_count },
        }))
      },
      Effect.catchTag("SqlError", unavailable("Audit.usage")),
    ),
    recount: traced("Audit.recount")(
      function* (project) {
        const rows = yield* sql`select recount_project(${project}::text) as changed`
        return (yield* decodeRecounted(rows[0])).changed
      },
      Effect.catchTag("SqlError", unavailable("Audit.recount")),
    ),
    placesOf: traced("Audit.placesOf")(
      function* (ids) {
        if (ids.length === 0) return []
        const rows = yield* sql`
          select id, sequence from events where id in (${told(ids)}) and sequence is not null`
        return yield* decodePlaces(rows)
      },
      Effect.catchTag("SqlError", unavailable("Audit.placesOf")),
    ),
  })
})

/** On any SqlClient that speaks Postgres; sums of large projects take longer than a request's statement may. */
export const layer: Layer.Layer<Audit, never, SqlClient.SqlClient> = Layer.effect(Audit, make)
