import { hash, timingSafeEqual } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, DateTime, Effect, Layer, Redacted, Schema } from "effect"
import { CredentialId, ExternalId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Permission, Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import { ProjectNotFound } from "../../src/domain/Project.ts"
import { ApiKeyNotFound, type ApiKeyRecord, Authenticator, Unauthorized } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
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
const believedAtMost = 10_000

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ids = yield* Ids
  const columns = sql.literal(rowColumns)
  const believed = new Map<string, { readonly caller: ProjectCaller; readonly until: number }>()
  const forget = (id: CredentialId) => {
    for (const [hash, { caller }] of believed) if (caller.keyId === id) believed.delete(hash)
  }

  const lookUp = Effect.fnUntraced(function* (hash: Buffer) {
    const rows = yield* sql`select ${columns} from api_keys
      where key_hash = ${hash} and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())`.pipe(
      Effect.catchTag("SqlError", unavailable("Authenticator.authenticate")),
    )
    const [row] = yield* Effect.orDie(decode(rows))
    if (row === undefined || !timingSafeEqual(row.key_hash, hash)) return yield* new Unauthorized()
    const { id, project, principal, permissions } = recordOf(row)
    const caller = new ProjectCaller({ keyId: id, project, principal, permissions })
    const now = yield* Clock.currentTimeMillis
    const until = Math.min(now + believedFor, row.expires_at?.epochMillis ?? Number.POSITIVE_INFINITY)
    if (believed.size >= believedAtMost) believed.clear()
    believed.set(hash.toString("base64"), { caller, until })
    return caller
  })

  return Authenticator.of({
    authenticate: traced("Authenticator.authenticate")((key) =>
      Effect.clockWith((clock): Effect.Effect<ProjectCaller, Unauthorized | DependencyUnavailable> => {
        const parts = /^(mbx_[A-Za-z0-9]{32,256})(?:\.([a-z0-9-]+))?$/.exec(Redacted.value(key))
        if (parts === null) return new Unauthorized()
        const hash = hashOf(parts[1] ?? "")
        const meant = (caller: ProjectCaller) =>
          parts[2] === undefined || parts[2] === caller.project ? Effect.succeed(caller) : new Unauthorized()
        const known = believed.get(hash.toString("base64"))
        if (known !== undefined && known.until > clock.unsafeCurrentTimeMillis()) return meant(known.caller)
        return Effect.flatMap(lookUp(hash), meant)
      }),
    ),

    issue: traced("Authenticator.issue")(function* (options) {
      const key = options.key ?? (yield* ids.apiKey)
      const rows = yield* sql`insert into api_keys ${sql.insert({
        id: yield* ids.credential,
        project: options.project,
        key_hash: hashOf(Redacted.value(key)),
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
        forget(id)
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
