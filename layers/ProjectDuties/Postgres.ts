import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Schema } from "effect"
import { ProjectDuties, StaleEpoch } from "../../services/ProjectDuties.ts"
import { ArtifactId, ProjectHandle } from "../../src/domain/Ids.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const decodeDue = decoder(
  Schema.Array(Schema.Struct({ project: ProjectHandle, sweep: Schema.Boolean, reconcile: Schema.Boolean })),
)
const decodeEpoch = decoder(Schema.Array(Schema.Struct({ epoch: Int8 })))
const decodeStale = decoder(
  Schema.Struct({ stale: Schema.NullOr(Schema.Array(Schema.Struct({ id: ArtifactId, blobKey: Schema.String }))) }),
)
const decodeForgotten = decoder(Schema.Struct({ current: Schema.Boolean }))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const due = traced("ProjectDuties.due")(
    function* ({ limit, staleSeconds }: { readonly staleSeconds: number; readonly limit: number }) {
      const rows = yield* sql`
        select project, sweep, reconcile
        from due_projects(${staleSeconds}::double precision, ${limit}::integer)`
      return yield* decodeDue(rows)
    },
    Effect.catchTag("SqlError", unavailable("ProjectDuties.due")),
  )

  const take = traced("ProjectDuties.take")(
    function* (project: ProjectHandle) {
      const rows = yield* sql`
        update project_duties set epoch = epoch + 1 where project = ${project}::text returning epoch`
      return (yield* decodeEpoch(rows))[0]?.epoch
    },
    Effect.catchTag("SqlError", unavailable("ProjectDuties.take")),
  )

  const fenceStale = traced("ProjectDuties.fenceStale")(
    function* (
      project: ProjectHandle,
      epoch: number,
      { limit, staleSeconds }: { readonly staleSeconds: number; readonly limit: number },
    ) {
      const rows = yield* sql`
        select fence_stale_uploads(${project}::text, ${epoch}::bigint, ${staleSeconds}::double precision,
          ${limit}::integer) as stale`
      const { stale } = yield* decodeStale(rows[0])
      return stale ?? (yield* new StaleEpoch({ project, epoch }))
    },
    Effect.catchTag("SqlError", unavailable("ProjectDuties.fenceStale")),
  )

  const forget = traced("ProjectDuties.forget")(
    function* (project: ProjectHandle, epoch: number, id: ArtifactId) {
      const rows = yield* sql`select forget_upload(${project}::text, ${epoch}::bigint, ${id}::text) as current`
      if (!(yield* decodeForgotten(rows[0])).current) return yield* new StaleEpoch({ project, epoch })
    },
    Effect.catchTag("SqlError", unavailable("ProjectDuties.forget")),
  )

  const reconciled = traced("ProjectDuties.reconciled")(
    function* (project: ProjectHandle, epoch: number, version: number) {
      const rows = yield* sql`
        with looked as (
          select project, case when seen_version = ${version}::bigint then least(3600, pause_seconds * 2) else 60 end as pause
          from project_duties where project = ${project}::text and epoch = ${epoch}::bigint for update)
        update project_duties as known set pause_seconds = looked.pause, seen_version = ${version}::bigint,
          due_at = clock_timestamp() + looked.pause * interval '1 second'
        from looked where known.project = looked.project returning known.epoch`
      if (rows.length === 0) return yield* new StaleEpoch({ project, epoch })
    },
    Effect.catchTag("SqlError", unavailable("ProjectDuties.reconciled")),
  )

  return ProjectDuties.of({ due, take, fenceStale, forget, reconciled })
})

/** The table `project_duties`, on any SqlClient that speaks Postgres. */
export const layer: Layer.Layer<ProjectDuties, never, SqlClient.SqlClient> = Layer.effect(ProjectDuties, make)
