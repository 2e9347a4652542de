import { DateTime, Effect, Layer, Redacted } from "effect"
import { ApiKeyNotFound, type ApiKeyRecord, Authenticator, Unauthorized } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import { ProjectCaller } from "../../src/domain/Principal.ts"
import { atomically, findProject, hashSecret, instant, MemoryDatabase } from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const good = (record: ApiKeyRecord, now: number) =>
  record.expiresAt === undefined || now < DateTime.toEpochMillis(record.expiresAt)

/** Looked up by digest, so that no comparison ever sees a secret. */
export const layer = Layer.effect(
  Authenticator,
  Effect.gen(function* () {
    const state = yield* MemoryDatabase
    const ids = yield* Ids
    return {
      authenticate: traced("Authenticator.authenticate")(function* (key) {
        const text = Redacted.value(key)
        const dot = text.indexOf(".")
        const named = dot < 0 ? undefined : text.slice(dot + 1)
        const { hex } = yield* hashSecret(Redacted.make(dot < 0 ? text : text.slice(0, dot)))
        return yield* atomically((now) => {
          const record = state.apiKeys.get(hex)
          if (record === undefined || !good(record, now) || (named !== undefined && named !== record.project))
            return new Unauthorized()
          const { id, project, principal, permissions } = record
          return Effect.succeed(new ProjectCaller({ keyId: id, project, principal, permissions }))
        })
      }),
      issue: traced("Authenticator.issue")(function* (options) {
        const key = options.key ?? (yield* ids.apiKey)
        const id = yield* ids.credential
        const { hex } = yield* hashSecret(key)
        return yield* atomically((now) =>
          Effect.map(findProject(state, options.project), ({ handle }) => {
            const record: ApiKeyRecord = {
              id,
              project: handle,
              principal: options.principal,
              permissions: options.permissions,
              createdAt: instant(now),
              ...(options.expiresAt === undefined ? {} : { expiresAt: options.expiresAt }),
            }
            state.apiKeys.set(hex, record)
            return { record, key }
          }),
        )
      }),
      list: traced("Authenticator.list")((project) =>
        Effect.map(findProject(state, project), () =>
          [...state.apiKeys.values()]
            .filter((record) => record.project === project)
            .sort((a, b) => b.createdAt.epochMillis - a.createdAt.epochMillis || (a.id < b.id ? 1 : -1)),
        ),
      ),
      revoke: traced("Authenticator.revoke")((project, id) =>
        Effect.suspend(() => {
          for (const [hash, record] of state.apiKeys)
            if (record.id === id && record.project === project) {
              state.apiKeys.delete(hash)
              return Effect.void
            }
          return new ApiKeyNotFound({ id })
        }),
      ),
      stillValid: traced("Authenticator.stillValid")((ids) =>
        atomically((now) => {
          const asked = new Set(ids)
          const found = [...state.apiKeys.values()].filter((record) => asked.has(record.id) && good(record, now))
          return Effect.succeed(new Set(found.map(({ id }) => id)))
        }),
      ),
    }
  }),
)
