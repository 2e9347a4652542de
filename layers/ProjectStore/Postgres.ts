import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { Bytes, ProjectHandle } from "../../src/domain/Ids.ts"
import { Project, ProjectNotFound } from "../../src/domain/Project.ts"
import { Usage } from "../../src/domain/Quota.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const Row = Schema.Struct({
  handle: ProjectHandle,
  quota_bytes: Schema.NullOr(Bytes),
  used_bytes: Bytes,
  limit_bytes: Bytes,
  artifact_count: Schema.Int,
  usage_version: Schema.Int,
  pending_count: Schema.optional(Schema.Int),
  created_at: Schema.DateTimeUtcFromDate,
  reservations: Schema.optional(Schema.Array(Schema.Struct({ uploadId: Schema.String, bytes: Bytes }))),
})
const decode = Schema.decodeUnknown(Schema.Array(Row))

const usageOf = (row: typeof Row.Type) =>
  new Usage({
    usedBytes: row.used_bytes,
    limitBytes: row.limit_bytes,
    artifactCount: row.artifact_count,
    version: row.usage_version,
  })

const projectOf = (row: typeof Row.Type) =>
  new Project({
    handle: row.handle,
    createdAt: row.created_at,
    ...(row.quota_bytes !== null && { quotaBytes: row.quota_bytes }),
  })

const make = (options: { readonly defaultQuotaBytes: number }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const columns = sql`handle, quota_bytes, used_bytes, artifact_count, usage_version, created_at,
      coalesce(quota_bytes, ${options.defaultQuotaBytes}::bigint) as limit_bytes`

    const one = (handle: string, rows: ReadonlyArray<object>) =>
      decode(rows).pipe(
        Effect.orDie,
        Effect.flatMap(([row]) => (row ? Effect.succeed(row) : new ProjectNotFound({ project: handle }))),
      )

    return ProjectStore.of({
      put: traced("ProjectStore.put")(
        function* (handle, quotaBytes) {
          const wanted = quotaBytes ?? null
          const rows = yield* sql`
            insert into projects as known (handle, quota_bytes) values (${handle}, ${wanted}::bigint)
            on conflict (handle) do update set
              quota_bytes = coalesce(excluded.quota_bytes, known.quota_bytes),
              usage_version = known.usage_version
                + (excluded.quota_bytes is not null and excluded.quota_bytes is distinct from known.quota_bytes)::int
            returning ${columns}`
          const [row] = yield* Effect.orDie(decode(rows))
          if (row === undefined) return yield* Effect.dieMessage("an upsert returned no row")
          return { project: projectOf(row), usage: usageOf(row) }
        },
        Effect.catchTag("SqlError", unavailable("ProjectStore.put")),
      ),
      get: traced("ProjectStore.get")(
        function* (handle) {
          const rows = yield* sql`
            select ${columns}, (select count(*) from artifacts
              where project = handle and state = 'pending' and fenced_at is null) as pending_count
            from projects where handle = ${handle}`
          const row = yield* one(handle, rows)
          return { project: projectOf(row), usage: usageOf(row), pendingCount: row.pending_count ?? 0 }
        },
        Effect.catchTag("SqlError", unavailable("ProjectStore.get")),
      ),
      quotaSnapshot: traced("ProjectStore.quotaSnapshot")(
        function* (handle) {
          const rows = yield* sql`
            select ${columns}, coalesce((select jsonb_agg(jsonb_build_object('uploadId', id, 'bytes', reserved_bytes))
              from artifacts where project = handle and state = 'pending' and fenced_at is null), '[]') as reservations
            from projects where handle = ${handle}`
          const row = yield* one(handle, rows)
          return { usage: usageOf(row), reservations: row.reservations ?? [] }
        },
        Effect.catchTag("SqlError", unavailable("ProjectStore.quotaSnapshot")),
      ),
    })
  })

/** Projects in Postgres; those without a quota of their own have `defaultQuotaBytes`. */
export const layer = (options: { readonly defaultQuotaBytes: number }) => Layer.effect(ProjectStore, make(options))
