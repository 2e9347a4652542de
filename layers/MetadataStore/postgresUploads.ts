import { SqlClient, type SqlError } from "@effect/sql"
import { Clock, Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import { Unauthorized } from "../../services/Authenticator.ts"
import type { LeaseProof } from "../../services/LeaseVerifier.ts"
import { type Begun, type CommitRequest, type PendingUpload, UploadFenced } from "../../services/MetadataStore.ts"
import { LeaseLost } from "../../src/domain/Claim.ts"
import { ArtifactId, ProjectHandle } from "../../src/domain/Ids.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { QuotaExceeded } from "../../src/domain/Quota.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { ArtifactRecord, Books, decoder, toArtifact, toUsage } from "./rows.ts"
import { traced } from "../../src/telemetry/Spans.ts"

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

const decodeCommitted = decoder(Committed)
const decodeOutcome = decoder(Outcome)
const decodeRecord = decoder(ArtifactRecord)
const decodeKeys = decoder(Schema.Array(Schema.Struct({ key: Schema.String })))

/** One key a scope: the same text from another principal, job or attempt is another key. Hex. */
const idempotencyHash = (project: string, { attempt, jobId, key, principal }: Idempotency): string =>
  createHash("sha256")
    .update(JSON.stringify([project, principal.kind, principal.id, jobId ?? null, attempt ?? null, key]))
    .digest("hex")

const isForeignKeyViolation = (error: SqlError.SqlError): boolean =>
  typeof error.cause === "object" && error.cause !== null && "code" in error.cause && error.cause.code === "23503"

/** How often `begin` looks again when the key's holder went away between the two statements. */
const BEGIN_ATTEMPTS = 5

/** From the pending row to the commit, and what the sweeps do with uploads that never came that far. */
export const makeUploads = (defaultQuotaBytes: number) =>
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

    const begin = traced("MetadataStore.begin")(
      function* (upload: PendingUpload) {
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

    const commit = traced("MetadataStore.commit")(
      function* (request: CommitRequest) {
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
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.commit")),
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

    return { begin, findReplay, renew, commit, outcome, fence, forget, unknownBlobKeys }
  })
