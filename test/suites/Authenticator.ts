import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Redacted } from "effect"
import { Authenticator } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import { all, freshProject, live, principal, refusal, type SqlLayer, unknownHandle, worker } from "./fixtures.ts"

const issue = Effect.fn(function* (over: { readonly expiresAt?: DateTime.Utc; readonly key?: Redacted.Redacted } = {}) {
  const project = yield* freshProject()
  const issued = yield* (yield* Authenticator).issue({ project, principal: worker, permissions: all, ...over })
  return { project, ...issued }
})

const withSuffix = (key: Redacted.Redacted, suffix: string) => Redacted.make(Redacted.value(key) + suffix)

/** The contract of services/Authenticator, a test a sentence. */
export const authenticatorSuite = (name: string, subject: SqlLayer) =>
  layer(subject, live)(`Authenticator: ${name}`, (it) => {
    it.effect("an issued key names its project, principal and permissions", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const project = yield* freshProject()
        const { key, record } = yield* auth.issue({
          project,
          principal: principal("ann", "user"),
          permissions: ["mobius.project.view"],
        })
        expect(Redacted.value(key)).toMatch(/^mbx_[0-9a-f]{64}$/)
        expect(yield* auth.authenticate(key)).toMatchObject({
          _tag: "ProjectCaller",
          keyId: record.id,
          project,
          principal: { kind: "user", id: "ann" },
          permissions: ["mobius.project.view"],
        })
      }),
    )
    it.effect("the key's own project may follow it, another may not", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const { key, project } = yield* issue()
        const other = yield* freshProject()
        expect((yield* auth.authenticate(withSuffix(key, `.${project}`))).project).toBe(project)
        expect(yield* refusal(auth.authenticate(withSuffix(key, `.${other}`)))).toBe("Unauthorized")
        expect(yield* refusal(auth.authenticate(withSuffix(key, ".")))).toBe("Unauthorized")
      }),
    )
    it.effect("unknown, empty and altered keys are Unauthorized", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const { key } = yield* issue()
        for (const bad of [
          "",
          "mbx_",
          `mbx_${"0".repeat(64)}`,
          Redacted.value(key).slice(0, -1),
          `${Redacted.value(key)}0`,
        ])
          expect(yield* refusal(auth.authenticate(Redacted.make(bad)))).toBe("Unauthorized")
      }),
    )
    it.effect("an expired key is Unauthorized and not valid any more, but still listed", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const expiresAt = DateTime.subtract(yield* DateTime.now, { minutes: 1 })
        const { key, project, record } = yield* issue({ expiresAt })
        expect(yield* refusal(auth.authenticate(key))).toBe("Unauthorized")
        expect(yield* auth.stillValid([record.id])).toEqual(new Set())
        expect((yield* auth.list(project)).map(({ id }) => id)).toEqual([record.id])
      }),
    )
    it.effect("a key that expires later is good until then", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const expiresAt = DateTime.add(yield* DateTime.now, { minutes: 1 })
        const { key, record } = yield* issue({ expiresAt })
        expect((yield* auth.authenticate(key)).keyId).toBe(record.id)
        expect(DateTime.toEpochMillis(record.expiresAt ?? DateTime.unsafeMake(0))).toBe(
          DateTime.toEpochMillis(expiresAt),
        )
      }),
    )
    it.effect("each issue makes another key", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const project = yield* freshProject()
        const options = { project, principal: worker, permissions: all }
        const [one, two] = [yield* auth.issue(options), yield* auth.issue(options)]
        expect(Redacted.value(one.key)).not.toBe(Redacted.value(two.key))
        expect(one.record.id).not.toBe(two.record.id)
      }),
    )
    it.effect("a secret made elsewhere is taken as it is", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const key = yield* (yield* Ids).apiKey
        const issued = yield* issue({ key })
        expect(Redacted.value(issued.key)).toBe(Redacted.value(key))
        expect((yield* auth.authenticate(key)).keyId).toBe(issued.record.id)
      }),
    )
    it.effect("an unknown project gets no key and has no list", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const issued = auth.issue({ project: unknownHandle(), principal: worker, permissions: all })
        expect(yield* refusal(issued)).toBe("ProjectNotFound")
        expect(yield* refusal(auth.list(unknownHandle()))).toBe("ProjectNotFound")
      }),
    )
    it.effect("the list is newest first, of this project alone, and without secrets", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const { project, record, key } = yield* issue()
        yield* Effect.sleep("5 millis")
        const second = yield* auth.issue({ project, principal: worker, permissions: all })
        yield* issue()
        const records = yield* auth.list(project)
        expect(records.map(({ id }) => id)).toEqual([second.record.id, record.id])
        expect(records[1]).toEqual(record)
        expect(JSON.stringify(records)).not.toContain(Redacted.value(key))
      }),
    )
    it.effect(
      "a revoked key is refused within 5 s, not valid at once, and gone from the list",
      () =>
        Effect.gen(function* () {
          const auth = yield* Authenticator
          const { project, key, record } = yield* issue()
          yield* auth.authenticate(key)
          expect(yield* auth.stillValid([record.id])).toEqual(new Set([record.id]))
          yield* auth.revoke(project, record.id)
          expect(yield* auth.stillValid([record.id])).toEqual(new Set())
          expect(yield* auth.list(project)).toEqual([])
          yield* Effect.iterate(false, {
            while: (gone) => !gone,
            body: () =>
              auth.authenticate(key).pipe(
                Effect.zipRight(Effect.sleep("100 millis")),
                Effect.as(false),
                Effect.catchTag("Unauthorized", () => Effect.succeed(true)),
              ),
          }).pipe(Effect.timeout("5 seconds"))
        }),
      10_000,
    )
    it.effect("revoking an unknown key, another project's, or twice is ApiKeyNotFound", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const { project, key, record } = yield* issue()
        const other = yield* freshProject()
        expect(yield* refusal(auth.revoke(project, yield* (yield* Ids).credential))).toBe("ApiKeyNotFound")
        expect(yield* refusal(auth.revoke(other, record.id))).toBe("ApiKeyNotFound")
        expect((yield* auth.authenticate(key)).keyId).toBe(record.id)
        yield* auth.revoke(project, record.id)
        expect(yield* refusal(auth.revoke(project, record.id))).toBe("ApiKeyNotFound")
      }),
    )
    it.effect("of many keys those are valid that are good, of whichever project; none is asked for: none", () =>
      Effect.gen(function* () {
        const auth = yield* Authenticator
        const [one, two, revoked] = [yield* issue(), yield* issue(), yield* issue()]
        yield* auth.revoke(revoked.project, revoked.record.id)
        const good = [one.record.id, two.record.id]
        const unknown = yield* (yield* Ids).credential
        expect(yield* auth.stillValid([...good, revoked.record.id, unknown])).toEqual(new Set(good))
        expect(yield* auth.stillValid([])).toEqual(new Set())
      }),
    )
  })
