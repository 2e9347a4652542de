import * as SqlClient from "@effect/sql/SqlClient"
import type * as SqlError from "@effect/sql/SqlError"
import { Effect, Schema } from "effect"
import type { ListFilter } from "../../services/MetadataStore.ts"
import { type Artifact, ArtifactNotFound, PermissionDenied } from "../../src/domain/Artifact.ts"
import { ArtifactId, type EventId } from "../../src/domain/Ids.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { batched } from "../clients/batched.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decodeCursor, encodeCursor } from "./cursor.ts"
import { listStatement } from "./list.ts"
import { ArtifactRecord, Books, decoder, recordColumns, toArtifact, toUsage } from "./rows.ts"
import { readable, visible } from "../../src/domain/Visibility.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const Removed = Schema.Union(
  Schema.Struct({
    outcome: Schema.Literal("deleted"),
    record: ArtifactRecord,
    blob_key: Schema.String,
    books: Books,
  }),
  Schema.Struct({
    outcome: Schema.Literal("already"),
    record: ArtifactRecord,
    blob_key: Schema.NullOr(Schema.String),
  }),
  Schema.Struct({ outcome: Schema.Literal("not_found", "denied") }),
)
const Listed = Schema.Struct({
  items: Schema.Array(ArtifactRecord),
  next: Schema.NullOr(Schema.Struct({ id: Schema.String, micros: Schema.String })),
})

const decodeRemoved = decoder(Removed)
const decodeListed = decoder(Listed)

const isArtifactId = Schema.is(ArtifactId)

/** Text the database cannot hold, so that no row has it. */
const unstorable = (text: string | undefined): boolean => text?.includes("\0") === true

interface Found {
  readonly artifact: Artifact
  readonly blobKey: string
}

/** By key for each, however few rows the statistics know of; and one plan, for every list is taken for as long. */
const selectFound = (sql: SqlClient.SqlClient, ids: ReadonlyArray<string>) =>
  sql<{ readonly record: ArtifactRecord; readonly blob_key: string }>`
    select a.blob_key, (select row_to_json(r) from (select ${recordColumns(sql, "a")}) as r) as record
    from jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb) as wanted(id),
      lateral (
        select ${recordColumns(sql, "artifacts")}, artifacts.state, artifacts.blob_key from artifacts where artifacts.id = wanted.id limit 1
      ) as a
    where a.state <> 'pending'`

/** What callers see of committed artifacts, and their removal. */
export const makeArtifacts = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    // Many who waited for the same artifact often ask at once.
    const lookUp = yield* batched<string, Found | undefined, SqlError.SqlError>({
      lanes: 1,
      most: 64,
      run: (ids) =>
        Effect.map(selectFound(sql, [...new Set(ids)]), (rows) => {
          const byId = new Map<string, Found>()
          for (const { blob_key, record } of rows)
            byId.set(record.id, { artifact: toArtifact(record), blobKey: blob_key })
          return ids.map((id) => Effect.succeed(byId.get(id)))
        }),
    })

    const found = Effect.fnUntraced(function* (id: string, may: (artifact: Artifact) => boolean) {
      const row = isArtifactId(id) ? yield* lookUp(id) : undefined
      return row !== undefined && may(row.artifact) ? row : yield* new ArtifactNotFound({ id })
    })
    const ready = ({ deletion }: Artifact) => deletion === undefined

    const find = traced("MetadataStore.find")(
      (caller: ProjectCaller, id: string, options: { readonly includeDeleted: boolean }) =>
        Effect.map(
          found(id, (one) => visible(caller, one) && (options.includeDeleted || ready(one))),
          ({ artifact }) => artifact,
        ),
      Effect.catchTag("SqlError", unavailable("MetadataStore.find")),
    )

    const findContent = traced("MetadataStore.findContent")(
      (caller: ProjectCaller, id: string) => found(id, (one) => readable(caller, one) && ready(one)),
      Effect.catchTag("SqlError", unavailable("MetadataStore.findContent")),
    )

    const findSigned = traced("MetadataStore.findSigned")(
      (id: string) => found(id, ready),
      Effect.catchTag("SqlError", unavailable("MetadataStore.findSigned")),
    )

    const list = traced("MetadataStore.list")(
      function* (caller: ProjectCaller, filter: ListFilter) {
        const after = filter.cursor === undefined ? undefined : yield* decodeCursor(filter.cursor)
        if ([filter.runId, filter.stepId, filter.jobId, filter.mime, filter.namePrefix].some(unstorable))
          return { items: [], nextCursor: undefined }
        const rows = yield* listStatement(sql, caller, filter, after)
        const { items, next } = yield* decodeListed(rows[0]?.page)
        return { items: items.map(toArtifact), nextCursor: next === null ? undefined : encodeCursor(next) }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.list")),
    )

    const remove = traced("MetadataStore.remove")(
      function* (caller: ProjectCaller, id: string, eventId: EventId) {
        if (!isArtifactId(id)) return yield* new ArtifactNotFound({ id })
        const edit = "mobius.project.edit"
        const rows = yield* sql<{ result: unknown }>`
        select delete_artifact(${id}::text, ${caller.project}::text, ${caller.principal.kind}::text,
          ${caller.principal.id}::text, ${caller.may("mobius.project.view")}::boolean, ${caller.may(edit)}::boolean,
          ${eventId}::text, ${defaultQuotaBytes}::bigint) as result`
        const result = yield* decodeRemoved(rows[0]?.result)
        switch (result.outcome) {
          case "deleted":
            return { artifact: toArtifact(result.record), blobKey: result.blob_key, usage: toUsage(result.books) }
          case "already":
            return { artifact: toArtifact(result.record), blobKey: result.blob_key ?? undefined, usage: undefined }
          case "not_found":
            return yield* new ArtifactNotFound({ id })
          case "denied":
            return yield* new PermissionDenied({ permission: edit })
        }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.remove")),
    )

    return { find, findContent, findSigned, list, remove }
  })
