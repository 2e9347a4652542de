import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { DateTime, Effect, Option, Redacted, Schema } from "effect"
import { ApiKeyNotFound, type ApiKeyRecord, Authenticator } from "../../services/Authenticator.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { CredentialId, ProjectHandle } from "../domain/Ids.ts"
import { Principal } from "../domain/Principal.ts"
import type { Project } from "../domain/Project.ts"
import type { Usage } from "../domain/Quota.ts"
import { ApiKeyBody, ProjectBody } from "./AdminApi.ts"
import { RoutedApi } from "./Api.ts"
import { badRequest, notFound } from "./ApiErrors.ts"
import { timestamp } from "./ArtifactJson.ts"
import { audited } from "./Audited.ts"
import { adminOnly } from "./Auth.ts"
import { jsonBody } from "./JsonBody.ts"
import { eventPage } from "./events/EventPage.ts"
import { translated } from "./Refusals.ts"

const existing = (project: string) =>
  Effect.mapError(Schema.decode(ProjectHandle)(project), () => notFound("There is no such project."))

const projectJson = (project: Project, usage: Usage) =>
  Effect.gen(function* () {
    const reading = yield* (yield* QuotaCounters).usage(project.handle)
    return {
      project: project.handle,
      quota_bytes: usage.limitBytes,
      limit_bytes: usage.limitBytes,
      used_bytes: reading.usedBytes,
      reserved_bytes: reading.reservedBytes,
      artifact_count: usage.artifactCount,
      created_at: timestamp(project.createdAt),
    }
  })

const apiKeyJson = (record: ApiKeyRecord) => ({
  project: record.project,
  principal: { kind: record.principal.kind, id: record.principal.id },
  permissions: record.permissions,
  created_at: timestamp(record.createdAt),
  ...(record.expiresAt === undefined ? {} : { expires_at: timestamp(record.expiresAt) }),
})

const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/

const parseExpiry = (text: string | undefined) =>
  text === undefined
    ? Effect.succeed(undefined)
    : Option.match(rfc3339.test(text) ? DateTime.make(text) : Option.none(), {
        onNone: () => Effect.fail(badRequest("expires_at: must be an RFC 3339 time.")),
        onSome: (time) => Effect.succeed(DateTime.toUtc(time)),
      })

export const AdminHttp = HttpApiBuilder.group(RoutedApi, "admin", (handlers) =>
  handlers
    .handleRaw("putProject", ({ path, request }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const handle = yield* Effect.mapError(Schema.decode(ProjectHandle)(path.project), () =>
          badRequest("A project's handle is 1 to 100 lower-case letters and digits, with single hyphens between them."),
        )
        const { quota_bytes } = yield* jsonBody(request, ProjectBody)
        const { project, usage } = yield* audited((yield* ProjectStore).put(handle, quota_bytes), {
          action: "project.changed",
          project: handle,
          details: { ...(quota_bytes !== undefined && { quota_bytes }) },
        })
        yield* (yield* QuotaCounters).refund(handle, usage)
        return HttpServerResponse.unsafeJson(yield* projectJson(project, usage))
      }).pipe(translated),
    )
    .handle("getProject", ({ path }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const { project, usage } = yield* (yield* ProjectStore).get(yield* existing(path.project))
        return yield* projectJson(project, usage)
      }).pipe(translated),
    )
    .handleRaw("issueKey", ({ path, request }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const project = yield* existing(path.project)
        const body = yield* jsonBody(request, ApiKeyBody)
        const expiresAt = yield* parseExpiry(body.expires_at)
        const permissions = [...new Set(body.permissions)]
        const issuing = (yield* Authenticator).issue({
          project,
          principal: new Principal(body.principal),
          permissions,
          expiresAt,
        })
        const { key, record } = yield* audited(issuing, {
          action: "key.issued",
          project,
          subject: ({ record }) => record.id,
          details: {
            principal: `${body.principal.kind}:${body.principal.id}`,
            permissions,
            ...(body.expires_at !== undefined && { expires_at: body.expires_at }),
          },
        })
        return HttpServerResponse.unsafeJson(
          { id: record.id, key: Redacted.value(key), ...apiKeyJson(record) },
          { status: 201 },
        )
      }).pipe(translated),
    )
    .handle("listKeys", ({ path }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const records = yield* (yield* Authenticator).list(yield* existing(path.project))
        return { items: records.map((record) => ({ id: record.id, ...apiKeyJson(record) })) }
      }).pipe(translated),
    )
    .handleRaw("revokeKey", ({ path }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const project = yield* existing(path.project)
        if (!Schema.is(CredentialId)(path.id)) return yield* new ApiKeyNotFound({ id: path.id })
        const { id } = path
        yield* audited((yield* Authenticator).revoke(project, id), {
          action: "key.revoked",
          project,
          subject: () => id,
        })
        return HttpServerResponse.empty({ status: 204 })
      }).pipe(translated),
    )
    .handle("events", ({ urlParams }) =>
      Effect.gen(function* () {
        yield* adminOnly
        const outbox = yield* Outbox
        const { lastPublished, oldestRetained } = yield* outbox.state
        const { hasMore, items } = yield* eventPage((urlParams.after ?? 0) + 1, urlParams.limit ?? 100)
        return {
          items,
          has_more: hasMore,
          last_sequence: lastPublished,
          ...(oldestRetained === undefined ? {} : { oldest_retained: oldestRetained }),
        }
      }).pipe(translated),
    ),
)
