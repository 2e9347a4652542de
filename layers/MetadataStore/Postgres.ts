import { SqlClient, type SqlError, type Statement } from "@effect/sql"
import { Clock, Effect, Layer, Schema } from "effect"
import { createHash } from "node:crypto"
import { Unauthorized } from "../../services/Authenticator.ts"
import type { LeaseProof } from "../../services/LeaseVerifier.ts"
import {
  type Begun,
  type CommitRequest,
  type ListFilter,
  MetadataStore,
  type PendingUpload,
  UploadFenced,
} from "../../services/MetadataStore.ts"
import { ArtifactNotFound, PermissionDenied } from "../../src/domain/Artifact.ts"
import { LeaseLost } from "../../src/domain/Claim.ts"
import { ArtifactId, type EventId, ProjectHandle } from "../../src/domain/Ids.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { QuotaExceeded } from "../../src/domain/Quota.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decodeCursor, encodeCursor } from "./cursor.ts"
import { listStatement } from "./list.ts"
import { ArtifactRecord, Books, decoder, toArtifact, toUsage } from "./rows.ts"
import { contentVisible, metadataVisible } from "./visibility.ts"

type Idempotency = NonNullable<PendingUpload["idempotency"]>

const Committed = Schema.Union(
  Schema.Struct({ outcome: Schema.Literal("committed"), record: ArtifactRecord, books: Books }),
  Schema.Struct({ outcome: Schema.Literal("quota"), books: Books, reserved: Schema.Number }),
  Schema.Struct({ outcome: Schema.Literal("fenced", "lease_lost", "unauthorized") }),
)
const Outcome = Schema.Union(
  Schema.Struct({ outcome: Schema.Literal("ready"), record: ArtifactRecord, books: Books }),
  Schema.Struct({ outcome: Schema.Literal("pending", "gone") }),
)
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
const Stale = Schema.Struct({ id: ArtifactId, project: ProjectHandle, blob_key: Schema.String })
const Listed = Schema.Struct({
  items: Schema.Array(Schema.Struct({ record: ArtifactRecord, micros: Schema.String })),
  bound: Schema.NullOr(Schema.Struct({ id: Schema.String, micros: Schema.String })),
})

const decodeCommitted = decoder(Committed)
const decodeOutcome = decoder(Outcome)
const decodeRemoved = decoder(Removed)
const decodeContent = decoder(Content)
const decodeRecord = decoder(ArtifactRecord)
const decodeListed = decoder(Listed)
const decodeStale = decoder(Schema.Array(Stale))
const decodeKeys = decoder(Schema.Array(Schema.Struct({ key: Schema.String })))
const decodeIdentity = decoder(Schema.Struct({ id: Schema.String }))

/** One key a scope: the same text from another principal, job or attempt is another key. Hex. */
const idempotencyHash = (project: string, { attempt, jobId, key, principal }: Idempotency): string =>
  createHash("sha256")
    .update(JSON.stringify([project, principal.kind, principal.id, jobId ?? null, attempt ?? null, key]))
    .digest("hex")

const isArtifactId = Schema.is(ArtifactId)

/** Text the database cannot hold, so that no row has it. */
const unstorable = (text: string | undefined): boolean => text?.includes("\0") === true

const isForeignKeyViolation = (error: SqlError.SqlError): boolean =>
  typeof error.cause === "object" && error.cause !== null && "code" in error.cause && error.cause.code === "23503"

/** How often `begin` looks again when the key's holder went away between the two statements. */
const BEGIN_ATTEMPTS = 5

const make = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    const holder = (hash: string) =>
      Effect.gen(function* () {
        const rows = yield* sql<{ state: string; record: unknown }>`
          select state, case when state <> 'pending' then artifact_record(a) end as record
          from artifacts a where idempotency_hash = decode(${hash}::text, 'hex')`
        const row = rows[0]
        if (row === undefined) return undefined
        if (row.state === "pending") return { _tag: "InProgress" } as const
        return { _tag: "Replay", artifact: toArtifact(yield* decodeRecord(row.record)) } as const
      })

    const begin = Effect.fn("MetadataStore.begin")(function* (upload: PendingUpload) {
      const hash = upload.idempotency === undefined ? null : idempotencyHash(upload.project, upload.idempotency)
      for (let attempt = 0; attempt < BEGIN_ATTEMPTS; attempt++) {
        const written = yield* sql`
          insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, idempotency_hash,
            reserved_bytes)
          values (${upload.id}::text, ${upload.project}::text, 'pending', ${upload.blobKey}::text,
            ${upload.createdBy.kind}::text, ${upload.createdBy.id}::text, decode(${hash}::text, 'hex'),
            ${upload.reservedBytes}::bigint)
          on conflict (idempotency_hash) do nothing returning id`.pipe(
          Effect.mapError((error) =>
            isForeignKeyViolation(error) ? new ProjectNotFound({ project: upload.project }) : error,
          ),
        )
        if (written.length > 0 || hash === null) return { _tag: "Begun" } as Begun
        const held = yield* holder(hash)
        if (held !== undefined) return held as Begun
      }
      return { _tag: "InProgress" } as Begun
    }, Effect.catchTag("SqlError", unavailable("MetadataStore.begin")))

    const findReplay = Effect.fn("MetadataStore.findReplay")(
      function* (project: ProjectHandle, idempotency: Idempotency) {
        return yield* holder(idempotencyHash(project, idempotency))
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findReplay")),
    )

    const renew = Effect.fn("MetadataStore.renew")(
      function* (id: ArtifactId, reservedBytes: number) {
        const rows = yield* sql`
          update artifacts set renewed_at = clock_timestamp(), reserved_bytes = ${reservedBytes}::bigint
          where id = ${id}::text and state = 'pending' and fenced_at is null returning id`
        if (rows.length === 0) return yield* new UploadFenced({ id })
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.renew")),
    )

    const commitStatement = (request: CommitRequest, lease: LeaseProof | undefined, proofAgeMillis: number | null) => {
      const { lineage, owner } = request
      const proof = lease === undefined ? "none" : lease._tag === "ClaimRow" ? "claim" : "introspected"
      const tokenHash = lease === undefined ? null : Buffer.from(lease.tokenHash).toString("hex")
      return sql<{ result: unknown }>`
        select commit_artifact(
          ${request.id}::text, ${request.project}::text, ${request.name}::text, ${request.mime}::text,
          ${request.size}::bigint, ${request.sha256}::text, ${JSON.stringify(request.metadata)}::text,
          ${request.visibility}::text, ${owner.kind}::text, ${owner.id}::text,
          ${lineage?.runId ?? null}::text, ${lineage?.stepId ?? null}::text, ${lineage?.jobId ?? null}::text,
          ${lineage?.workerSessionId ?? null}::text, ${lineage?.attempt ?? null}::integer,
          ${request.keyId}::text, ${request.eventId}::text,
          ${proof}::text, decode(${tokenHash}::text, 'hex'), ${proofAgeMillis}::double precision,
          ${defaultQuotaBytes}::bigint) as result`
    }

    /** The age of an introspected proof is taken with the connection in hand: waiting for one makes it older. */
    const runCommit = (request: CommitRequest) => {
      const { lease } = request
      return lease?._tag === "Introspected"
        ? sql.withTransaction(
            Effect.flatMap(Clock.currentTimeMillis, (now) =>
              commitStatement(request, lease, now - lease.askedAtMillis),
            ),
          )
        : commitStatement(request, lease, null)
    }

    const commit = Effect.fn("MetadataStore.commit")(function* (request: CommitRequest) {
      const rows = yield* runCommit(request)
      const result = yield* decodeCommitted(rows[0]?.result)
      switch (result.outcome) {
        case "committed":
          return { artifact: toArtifact(result.record), usage: toUsage(result.books) }
        case "fenced":
          return yield* new UploadFenced({ id: request.id })
        case "lease_lost":
          return yield* new LeaseLost(
            request.lineage === undefined ? {} : { jobId: request.lineage.jobId, attempt: request.lineage.attempt },
          )
        case "unauthorized":
          return yield* new Unauthorized()
        case "quota":
          return yield* new QuotaExceeded({
            limitBytes: result.books.limit,
            usedBytes: result.books.used,
            reservedBytes: result.reserved,
            requestedBytes: request.size,
          })
      }
    }, Effect.catchTag("SqlError", unavailable("MetadataStore.commit")))

    const outcome = Effect.fn("MetadataStore.outcome")(
      function* (id: ArtifactId) {
        const rows = yield* sql<{ result: unknown }>`
          select upload_outcome(${id}::text, ${defaultQuotaBytes}::bigint) as result`
        const result = yield* decodeOutcome(rows[0]?.result)
        switch (result.outcome) {
          case "ready":
            return { _tag: "Ready", artifact: toArtifact(result.record), usage: toUsage(result.books) } as const
          case "pending":
            return { _tag: "Pending" } as const
          case "gone":
            return { _tag: "Gone" } as const
        }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.outcome")),
    )

    const fence = Effect.fn("MetadataStore.fence")(
      function* (id: ArtifactId) {
        yield* sql`
          update artifacts set fenced_at = clock_timestamp(), idempotency_hash = null
          where id = ${id}::text and state = 'pending' and fenced_at is null`
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.fence")),
    )

    const forget = Effect.fn("MetadataStore.forget")(
      function* (id: ArtifactId) {
        yield* sql`delete from artifacts where id = ${id}::text and state = 'pending' and fenced_at is not null`
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.forget")),
    )

    /** Those fenced earlier take turns by `renewed_at`: uploads that cannot be cleaned up do not keep others waiting. */
    const fenceStale = Effect.fn("MetadataStore.fenceStale")(
      function* ({ limit, staleSeconds }: { readonly staleSeconds: number; readonly limit: number }) {
        const rows = yield* sql`
          with fenced as (
            update artifacts set fenced_at = clock_timestamp(), idempotency_hash = null
            where id in (
              select id from artifacts where state = 'pending' and fenced_at is null
                and renewed_at <= clock_timestamp() - ${staleSeconds}::double precision * interval '1 second'
              order by renewed_at limit ${limit}::integer for update skip locked)
            returning id, project, blob_key
          ), earlier as (
            update artifacts set renewed_at = clock_timestamp()
            where id in (
              select id from artifacts where state = 'pending' and fenced_at is not null
              order by renewed_at limit ${limit}::integer for update skip locked)
            returning id, project, blob_key
          )
          select * from fenced union all select * from earlier`
        const stale = yield* decodeStale(rows)
        return stale.map(({ blob_key, id, project }) => ({ id, project, blobKey: blob_key }))
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.fenceStale")),
    )

    const unknownBlobKeys = Effect.fn("MetadataStore.unknownBlobKeys")(
      function* (keys: ReadonlyArray<string>) {
        if (keys.length === 0) return []
        const rows = yield* sql`
          select key from jsonb_array_elements_text(${JSON.stringify(keys)}::text::jsonb) as key
          where not exists (select from artifacts where blob_key = key and state <> 'deleted')
            and not exists (select from removals where blob_key = key)`
        return (yield* decodeKeys(rows)).map(({ key }) => key)
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.unknownBlobKeys")),
    )

    const rowOf = (id: string, condition: Statement.Fragment) =>
      isArtifactId(id)
        ? Effect.flatMap(
            sql`select artifact_record(a) as record, a.blob_key
              from artifacts a where a.id = ${id}::text and ${condition}`,
            (rows) => (rows[0] === undefined ? Effect.fail(new ArtifactNotFound({ id })) : decodeContent(rows[0])),
          )
        : Effect.fail(new ArtifactNotFound({ id }))

    const find = Effect.fn("MetadataStore.find")(
      function* (caller: ProjectCaller, id: string, options: { readonly includeDeleted: boolean }) {
        const states = options.includeDeleted ? sql`a.state in ('ready', 'deleted')` : sql`a.state = 'ready'`
        const { record } = yield* rowOf(id, sql`${states} and ${metadataVisible(sql, caller, "a")}`)
        return toArtifact(record)
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.find")),
    )

    const findContent = Effect.fn("MetadataStore.findContent")(
      function* (caller: ProjectCaller, id: string) {
        const row = yield* rowOf(id, sql`a.state = 'ready' and ${contentVisible(sql, caller, "a")}`)
        return { artifact: toArtifact(row.record), blobKey: row.blob_key }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findContent")),
    )

    const findSigned = Effect.fn("MetadataStore.findSigned")(
      function* (id: string) {
        const row = yield* rowOf(id, sql`a.state = 'ready'`)
        return { artifact: toArtifact(row.record), blobKey: row.blob_key }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findSigned")),
    )

    const list = Effect.fn("MetadataStore.list")(
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

    const remove = Effect.fn("MetadataStore.remove")(function* (caller: ProjectCaller, id: string, eventId: EventId) {
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
    }, Effect.catchTag("SqlError", unavailable("MetadataStore.remove")))

    const storeId = Effect.gen(function* () {
      yield* sql`insert into store_identity (id) values (gen_random_uuid()::text) on conflict (one) do nothing`
      const rows = yield* sql`select id from store_identity`
      return (yield* decodeIdentity(rows[0])).id
    }).pipe(
      Effect.catchTag("SqlError", unavailable("MetadataStore.storeId")),
      Effect.withSpan("MetadataStore.storeId"),
    )

    const ping = sql`select 1`.pipe(
      Effect.asVoid,
      Effect.catchTag("SqlError", unavailable("MetadataStore.ping")),
      Effect.withSpan("MetadataStore.ping"),
    )

    return MetadataStore.of({
      begin,
      findReplay,
      renew,
      commit,
      outcome,
      fence,
      forget,
      fenceStale,
      unknownBlobKeys,
      find,
      findContent,
      findSigned,
      list,
      remove,
      storeId,
      ping,
    })
  })

/** On any SqlClient that speaks Postgres. `defaultQuotaBytes`: the limit of projects that have none of their own. */
export const layer = (options: {
  readonly defaultQuotaBytes: number
}): Layer.Layer<MetadataStore, never, SqlClient.SqlClient> =>
  Layer.effect(MetadataStore, make(options.defaultQuotaBytes))
