import * as SqlClient from "@effect/sql/SqlClient"
import type * as SqlError from "@effect/sql/SqlError"
import { Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import { Unauthorized } from "../../services/Authenticator.ts"
import {
  type Begun,
  type PendingUpload,
  UploadFenced,
  type UploadRight,
  UploadSuperseded,
} from "../../services/MetadataStore.ts"
import { ArtifactId, ProjectHandle } from "../../src/domain/Ids.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { leaseLost } from "../ClaimStore/claims.ts"
import { batched } from "../clients/batched.ts"
import { sqlState, unavailable } from "../clients/sqlErrors.ts"
import { makeCommit } from "./postgresCommits.ts"
import { ArtifactRecord, Books, decoder, toArtifact, toUsage } from "./rows.ts"
import { traced } from "../../src/telemetry/Spans.ts"

type Idempotency = NonNullable<PendingUpload["idempotency"]>

const Outcome = Schema.Union(
  Schema.Struct({ outcome: Schema.Literal("ready"), record: ArtifactRecord, books: Books }),
  Schema.Struct({ outcome: Schema.Literal("pending", "gone") }),
)

/** What the SQL function take_over_key returns. */
const TakeOver = Schema.Union(
  Schema.Struct({ outcome: Schema.Literal("begun"), superseded: Schema.NullOr(ArtifactId) }),
  Schema.Struct({ outcome: Schema.Literal("replay"), record: ArtifactRecord }),
  Schema.Struct({ outcome: Schema.Literal("in_progress") }),
)

/** What a renewal found: whether claim and key are live, and whether it renewed the row. */
const Standing = Schema.Struct({ leased: Schema.Boolean, keyed: Schema.Boolean, renewed: Schema.Boolean })
const Pending = Schema.Array(Schema.Struct({ superseded: Schema.Boolean, unfenced: Schema.Boolean }))

const decodeOutcome = decoder(Outcome)
const decodeStanding = decoder(Standing)
const decodePending = decoder(Pending)
const decodeTakeOver = decoder(TakeOver)
const decodeRecord = decoder(ArtifactRecord)
const decodeKeys = decoder(Schema.Array(Schema.Struct({ key: Schema.String })))

/** One key a scope: the same text from another principal, job or attempt is another key. Hex. */
const idempotencyHash = (project: string, { attempt, jobId, key, principal }: Idempotency): string =>
  createHash("sha256")
    .update(JSON.stringify([project, principal.kind, principal.id, jobId ?? null, attempt ?? null, key]))
    .digest("hex")

const isForeignKeyViolation = (error: SqlError.SqlError): boolean => sqlState(error) === "23503"

/**
 * How a pending row is committed, for the transaction at hand: the disk is not waited for, unless the session's
 * `artifacts.begin_commit` says that it must be.
 */
const beginCommit =
  "set_config('synchronous_commit', coalesce(nullif(current_setting('artifacts.begin_commit', true), ''), 'off'), true)"

/**
 * Returns the ids of the rows that were written; the others' keys are held. The disk is not waited for: a commit's sync
 * covers its row, and an upload whose row a crash took with it is refused at its commit. Keys are written in one order
 * everywhere: two pods that write the same keys at once wait for each other, and must not do so in a circle.
 */
const insertRows = (sql: SqlClient.SqlClient, uploads: ReadonlyArray<PendingUpload>) => {
  const rows = uploads.map(({ blobKey, createdBy, id, idempotency, project, reservedBytes }) => ({
    id,
    project,
    blob_key: blobKey,
    kind: createdBy.kind,
    principal: createdBy.id,
    hash: idempotency === undefined ? null : idempotencyHash(project, idempotency),
    reserved: reservedBytes,
  }))
  const statement = sql<{ readonly id: string }>`
    insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, idempotency_hash, reserved_bytes)
    select id, project, 'pending', blob_key, kind, principal, decode(hash, 'hex'), reserved
    from jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb) as told(
      id text, project text, blob_key text, kind text, principal text, hash text, reserved bigint),
      ${sql.literal(beginCommit)}
    order by hash
    on conflict (idempotency_hash) do nothing returning id`
  return Effect.map(statement, (written) => new Set(written.map(({ id }) => id)))
}

/** From the pending row to the commit, and what the sweeps do with uploads that never came that far. */
export const makeUploads = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const commit = yield* makeCommit(defaultQuotaBytes)

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

    /** Resolves with whether the row was written; not when another holds the upload's key. */
    const insert = yield* batched<PendingUpload, boolean, SqlError.SqlError | ProjectNotFound>({
      lanes: 1,
      most: 64,
      run: (uploads) =>
        insertRows(sql, uploads).pipe(
          Effect.map((written) => uploads.map(({ id }) => Effect.succeed(written.has(id)))),
          // One names a project that does not exist: nothing was written, and the others need not suffer for it.
          Effect.catchIf(isForeignKeyViolation, () =>
            Effect.succeed(
              uploads.map((upload) =>
                insertRows(sql, [upload]).pipe(
                  Effect.map((written) => written.has(upload.id)),
                  Effect.mapError((error) =>
                    isForeignKeyViolation(error) ? new ProjectNotFound({ project: upload.project }) : error,
                  ),
                ),
              ),
            ),
          ),
        ),
    })

    const takeOver = (upload: PendingUpload, idempotency: Idempotency) =>
      Effect.gen(function* () {
        const { createdBy, id, lease, project } = upload
        const tokenHash = lease?._tag === "ClaimRow" ? Buffer.from(lease.tokenHash) : null
        const rows = yield* sql<{ result: unknown }>`
          select take_over_key(${id}::text, ${project}::text, ${upload.blobKey}::text, ${createdBy.kind}::text,
            ${createdBy.id}::text, ${upload.reservedBytes}::bigint,
            decode(${idempotencyHash(project, idempotency)}::text, 'hex'), ${idempotency.jobId ?? null}::text,
            ${idempotency.attempt ?? null}::integer, ${tokenHash}::bytea) as result,
            ${sql.literal(beginCommit)}`
        const result = yield* decodeTakeOver(rows[0]?.result)
        switch (result.outcome) {
          case "begun":
            return { _tag: "Begun", superseded: result.superseded ?? undefined } satisfies Begun
          case "replay":
            return { _tag: "Replay", artifact: toArtifact(result.record) } satisfies Begun
          case "in_progress":
            return { _tag: "InProgress" } satisfies Begun
        }
      })

    const begin = traced("MetadataStore.begin")(
      function* (upload: PendingUpload) {
        const written = yield* insert(upload)
        const begun: Begun =
          written || upload.idempotency === undefined
            ? { _tag: "Begun", superseded: undefined }
            : yield* takeOver(upload, upload.idempotency)
        return begun
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.begin")),
    )

    const findReplay = traced("MetadataStore.findReplay")(
      function* (project: ProjectHandle, idempotency: Idempotency) {
        return yield* holder(idempotencyHash(project, idempotency))
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.findReplay")),
    )

    const renew = traced("MetadataStore.renew")(
      function* (id: ArtifactId, reservedBytes: number, right: UploadRight) {
        const { keyId, lease, lineage, project } = right
        const leased =
          lease?._tag === "ClaimRow"
            ? sql`exists (
                select from claims where project = ${project}::text and job_id = ${lineage?.jobId ?? null}::text
                  and attempt = ${lineage?.attempt ?? null}::integer
                  and token_hash = ${Buffer.from(lease.tokenHash)}::bytea
                  and ended_at is null and expires_at > clock_timestamp())`
            : sql`true`
        const rows = yield* sql`
          with standing as materialized (
            select ${leased} as leased, exists (
              select from api_keys where id = ${keyId}::text and project = ${project}::text and revoked_at is null
                and coalesce(expires_at, 'infinity') > clock_timestamp()) as keyed
          ), renewed as (
            update artifacts set renewed_at = clock_timestamp(), reserved_bytes = ${reservedBytes}::bigint
            where id = ${id}::text and state = 'pending' and fenced_at is null
              and (select leased and keyed from standing)
            returning id
          )
          select leased, keyed, exists (select from renewed) as renewed from standing`
        const { keyed, leased: live, renewed } = yield* decodeStanding(rows[0])
        if (renewed) return
        // Asked afterwards: a fence may have come in between.
        const found = yield* sql`
          select superseded_by is not null as superseded, fenced_at is null and state = 'pending' as unfenced
          from artifacts where id = ${id}::text`
        const [own] = yield* decodePending(found)
        if (own?.superseded === true) return yield* new UploadSuperseded({ id })
        if (own?.unfenced !== true) return yield* new UploadFenced({ id })
        if (!live) return yield* Effect.provideService(leaseLost(right), SqlClient.SqlClient, sql)
        return yield* keyed ? new UploadFenced({ id }) : new Unauthorized()
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.renew")),
    )

    const outcome = traced("MetadataStore.outcome")(
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

    const fence = traced("MetadataStore.fence")(
      function* (id: ArtifactId) {
        yield* sql`
          update artifacts set fenced_at = clock_timestamp(), idempotency_hash = null
          where id = ${id}::text and state = 'pending' and fenced_at is null`
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.fence")),
    )

    const forget = traced("MetadataStore.forget")(
      function* (id: ArtifactId) {
        yield* sql`delete from artifacts where id = ${id}::text and state = 'pending' and fenced_at is not null`
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.forget")),
    )

    const unknownBlobKeys = traced("MetadataStore.unknownBlobKeys")(
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

    const uploadingBlobKeys = traced("MetadataStore.uploadingBlobKeys")(
      function* (keys: ReadonlyArray<string>) {
        if (keys.length === 0) return []
        const rows = yield* sql`
          select key from jsonb_array_elements_text(${JSON.stringify(keys)}::text::jsonb) as key
          where exists (select from artifacts where blob_key = key and state = 'pending' and fenced_at is null)`
        return (yield* decodeKeys(rows)).map(({ key }) => key)
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.uploadingBlobKeys")),
    )

    return { begin, findReplay, renew, commit, outcome, fence, forget, unknownBlobKeys, uploadingBlobKeys }
  })
