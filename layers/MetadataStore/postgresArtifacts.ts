import { SqlClient, type Statement } from "@effect/sql"
import { Effect, Schema } from "effect"
import type { ListFilter } from "../../services/MetadataStore.ts"
import { ArtifactNotFound, PermissionDenied } from "../../src/domain/Artifact.ts"
import { ArtifactId, type EventId } from "../../src/domain/Ids.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decodeCursor, encodeCursor } from "./cursor.ts"
import { listStatement } from "./list.ts"
import { ArtifactRecord, Books, decoder, toArtifact, toUsage } from "./rows.ts"
import { contentVisible, metadataVisible } from "./visibility.ts"
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
const Content = Schema.Struct({ record: ArtifactRecord, blob_key: Schema.String })
const Listed = Schema.Struct({
  items: Schema.Array(Schema.Struct({ record: ArtifactRecord, micros: Schema.String })),
  bound: Schema.NullOr(Schema.Struct({ id: Schema.String, micros: Schema.String })),
})

const decodeRemoved = decoder(Removed)
const decodeContent = decoder(Content)
const decodeListed = decoder(Listed)

const isArtifactId = Schema.is(ArtifactId)

/** Text the database cannot hold, so that no row has it. */
const unstorable = (text: string | undefined): boolean => text?.includes("\0") === true

/** What callers see of committed artifacts, and their removal. */
export const makeArtifacts = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    const rowOf = (id: string, condition: Statement.Fragment) =>
      isArtifactId(id)
        ? Effect.flatMap(
            sql`select artifact_record(a) as record, a.blob_key
              from artifacts a where a.id = ${id}::text and ${condition}`,
            (rows) => (rows[0] === undefined ? Effect.fail(new ArtifactNotFound({ id })) : decodeContent(rows[0])),
          )
        : Effect.fail(new ArtifactNotFound({ id }))

    const find = traced("MetadataStore.find")(
      function* (caller: ProjectCaller, id: string, options: { readonly includeDeleted: boolean }) {
        const states = options.includeDeleted ? sql`a.state in ('ready', 'deleted')` : sql`a.state = 'ready'`
        const { record } = yield* rowOf(id, sql`${states} and ${metadataVisible(sql, caller, "a")}`)
        return toArtifact(record)
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.find")),
    )

    const findContent = traced("MetadataStore.findContent")(
      function* (caller: ProjectCaller, id: string) {
        const row = yield* rowOf(id, sql`a.state = 'ready' and ${contentVisible(sql, caller, "a")}`)
        return { artifact: toArtifact(row.record), blobKey: row.blob_key }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findContent")),
    )

    const findSigned = traced("MetadataStore.findSigned")(
      function* (id: string) {
        const row = yield* rowOf(id, sql`a.state = 'ready'`)
        return { artifact: toArtifact(row.record), blobKey: row.blob_key }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findSigned")),
    )

    const list = traced("MetadataStore.list")(
      function* (caller: ProjectCaller, filter: ListFilter) {
        const after = filter.cursor === undefined ? undefined : yield* decodeCursor(filter.cursor)
        if ([filter.runId, filter.stepId, filter.jobId, filter.mime, filter.namePrefix].some(unstorable))
          return { items: [], nextCursor: undefined }
        const rows = yield* listStatement(sql, caller, filter, after)
        const page = yield* decodeListed(rows[0]?.page)
        const shown = page.items.slice(0, filter.limit)
        const last = shown.at(-1)
        const next =
          page.items.length > filter.limit && last !== undefined
            ? { id: last.record.id, micros: last.micros }
            : page.bound
        return {
          items: shown.map(({ record }) => toArtifact(record)),
          nextCursor: next === null ? undefined : encodeCursor(next),
        }
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
