import { hash, timingSafeEqual } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Clock, DateTime, Effect, Layer, Redacted, Schema } from "effect"
import { CredentialId, ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Permission, Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { ApiKeyNotFound, type ApiKeyRecord, Authenticator, Unauthorized } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import { batched } from "../clients/batched.ts"
import { Expiring } from "../clients/Expiring.ts"
import { sqlState, unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const Row = Schema.Struct({
  id: CredentialId,
  project: ProjectHandle,
  key_hash: Schema.Uint8ArrayFromSelf,
  principal_kind: Principal.fields.kind,
  principal_id: ExternalId,
  permissions: Schema.Array(Permission),
  created_at: Schema.DateTimeUtcFromDate,
  expires_at: Schema.NullOr(Schema.DateTimeUtcFromDate),
})
const decode = Schema.decodeUnknown(Schema.Array(Row))
const rowColumns = Object.keys(Row.fields).join(", ")

const recordOf = (row: typeof Row.Type): ApiKeyRecord => ({
  id: row.id,
  project: row.project,
  principal: new Principal({ kind: row.principal_kind, id: row.principal_id }),
  permissions: row.permissions,
  createdAt: row.created_at,
  ...(row.expires_at !== null && { expiresAt: row.expires_at }),
})

const hashOf = (secret: string) => hash("sha256", secret, "buffer")

/** How long a good answer is believed without asking again, in milliseconds; a revocation must arrive within 5 s. */
const believedFor = 2000
/** How long a key without an answer is refused without asking again, in milliseconds: another pod may issue it meanwhile. */
const unknownFor = 1000
const cachedAtMost = 10_000

/** By key for each, however few rows the statistics know of; one plan, whatever the number of hashes. */
const selectLive = (sql: SqlClient.SqlClient, hashes: ReadonlyArray<string>) =>
  sql`select ${sql.literal(rowColumns)}
    from jsonb_array_elements_text(${JSON.stringify(hashes)}::text::jsonb) as wanted(hash),
      lateral (
        select ${sql.literal(rowColumns)} from api_keys
        where key_hash = decode(wanted.hash, 'hex') and revoked_at is null
          and (expires_at is null or expires_at > clock_timestamp()) limit 1
      ) as live`

/**
 * Finds live keys by their hashes. Look-ups share statements, so that many at once, of keys that nobody knows too, take
 * one connection and few round trips.
 */
const makeLookUp = (sql: SqlClient.SqlClient) =>
  batched<Buffer, typeof Row.Type | undefined, SqlError>({
    lanes: 1,
    most: 256,
    run: (hashes) =>
      Effect.gen(function* () {
        const rows = yield* Effect.orDie(
          decode(yield* selectLive(sql, [...new Set(hashes.map((hash) => hash.toString("hex")))])),
        )
        const byHash = new Map(rows.map((row) => [Buffer.from(row.key_hash).toString("hex"), row]))
        return hashes.map((hash) => {
          const row = byHash.get(hash.toString("hex"))
          return Effect.succeed(row !== undefined && timingSafeEqual(row.key_hash, hash) ? row : undefined)
        })
      }),
  })

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ids = yield* Ids
  const columns = sql.literal(rowColumns)
  const lookUp = yield* makeLookUp(sql)
  const believed = new Expiring<ProjectCaller>(cachedAtMost)
  /** Hashes of keys that were not found. */
  const unknown = new Expiring<true>(cachedAtMost)
  /** Keys issued here so far: a look-up that was under way meanwhile may have missed one of them. */
  let issued = 0

  const find = Effect.fnUntraced(function* (hash: Buffer, name: string) {
    const issuedBefore = issued
    const row = yield* Effect.catchTag(lookUp(hash), "SqlError", unavailable("Authenticator.authenticate"))
    const now = yield* Clock.currentTimeMillis
    if (row === undefined) {
      if (issued === issuedBefore) unknown.set(name, true, now + unknownFor)
      return yield* new Unauthorized()
    }
    const { id, project, principal, permissions } = recordOf(row)
    const caller = new ProjectCaller({ keyId: id, project, principal, permissions })
    believed.set(name, caller, Math.min(now + believedFor, row.expires_at?.epochMillis ?? Number.POSITIVE_INFINITY))
    return caller
  })

  return Authenticator.of({
    authenticate: traced("Authenticator.authenticate")((key) =>
      Effect.clockWith((clock): Effect.Effect<ProjectCaller, Unauthorized | DependencyUnavailable> => {
        const parts = /^(mbx_[A-Za-z0-9]{32,256})(?:\.([a-z0-9-]+))?$/.exec(Redacted.value(key))
        if (parts === null) return new Unauthorized()
        const hash = hashOf(parts[1] ?? "")
        const name = hash.toString("base64")
        const meant = (caller: ProjectCaller) =>
          parts[2] === undefined || parts[2] === caller.project ? Effect.succeed(caller) : new Unauthorized()
        const now = clock.unsafeCurrentTimeMillis()
        const known = believed.get(name, now)
        if (known !== undefined) return meant(known)
        return unknown.get(name, now) === undefined ? Effect.flatMap(find(hash, name), meant) : new Unauthorized()
      }),
    ),

    issue: traced("Authenticator.issue")(function* (options) {
      const key = options.key ?? (yield* ids.apiKey)
      const hash = hashOf(Redacted.value(key))
      const rows = yield* sql`insert into api_keys ${sql.insert({
        id: yield* ids.credential,
        project: options.project,
        key_hash: hash,
        principal_kind: options.principal.kind,
        principal_id: options.principal.id,
        permissions: `{${[...new Set(options.permissions)].join(",")}}`,
        expires_at: options.expiresAt === undefined ? null : DateTime.toDateUtc(options.expiresAt),
      })} returning ${columns}`.pipe(
        Effect.catchTag("SqlError", (error): Effect.Effect<never, ProjectNotFound | DependencyUnavailable> =>
          sqlState(error) === "23503"
            ? new ProjectNotFound({ project: options.project })
            : unavailable("Authenticator.issue")(error),
        ),
      )
      issued++
      unknown.delete(hash.toString("base64"))
      const [row] = yield* Effect.orDie(decode(rows))
      if (row === undefined) return yield* Effect.dieMessage("an insert returned no row")
      return { record: recordOf(row), key }
    }),

    list: traced("Authenticator.list")(
      function* (project) {
        const found = yield* sql`select 1 from projects where handle = ${project}`
        if (found.length === 0) return yield* new ProjectNotFound({ project })
        const rows = yield* sql`select ${columns} from api_keys where project = ${project} and revoked_at is null
          order by created_at desc, id desc`
        return (yield* Effect.orDie(decode(rows))).map(recordOf)
      },
      Effect.catchTag("SqlError", unavailable("Authenticator.list")),
    ),

    revoke: traced("Authenticator.revoke")(
      function* (project, id) {
        const rows = yield* sql`update api_keys set revoked_at = clock_timestamp()
          where id = ${id} and project = ${project} and revoked_at is null returning id`
        believed.deleteWhere(({ keyId }) => keyId === id)
        if (rows.length === 0) return yield* new ApiKeyNotFound({ id })
      },
      Effect.catchTag("SqlError", unavailable("Authenticator.revoke")),
    ),

    stillValid: traced("Authenticator.stillValid")(
      function* (ids) {
        const rows = yield* sql<{ readonly id: CredentialId }>`select id from api_keys
          where id in (select jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb)) and revoked_at is null
          and (expires_at is null or expires_at > clock_timestamp())`
        return new Set(rows.map(({ id }) => id))
      },
      Effect.catchTag("SqlError", unavailable("Authenticator.stillValid")),
    ),
  })
})

export const layer = Layer.effect(Authenticator, make)
