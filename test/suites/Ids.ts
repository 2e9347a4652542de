import { expect, layer } from "@effect/vitest"
import { Effect, type Layer, Redacted, Schema, TestClock } from "effect"
import { Ids } from "../../services/Ids.ts"
import { ArtifactId, CredentialId, EventId } from "../../src/domain/Ids.ts"

/** The contract of services/Ids, a test a sentence. */
export const idsSuite = (name: string, subject: Layer.Layer<Ids, unknown>) =>
  layer(subject)(`Ids: ${name}`, (it) => {
    it.effect("ids are ULIDs behind their prefix", () =>
      Effect.gen(function* () {
        const ids = yield* Ids
        const made = [yield* ids.artifact, yield* ids.credential, yield* ids.event]
        expect(Schema.is(ArtifactId)(made[0])).toBe(true)
        expect(Schema.is(CredentialId)(made[1])).toBe(true)
        expect(Schema.is(EventId)(made[2])).toBe(true)
        for (const id of made) expect(id).toMatch(/^[a-z]+_[0-7][0-9A-HJKMNP-TV-Z]{25}$/)
      }),
    )
    it.effect("ids increase within a process, also within one millisecond", () =>
      Effect.gen(function* () {
        const ids = yield* Ids
        const made = yield* Effect.replicateEffect(ids.artifact, 2_000)
        expect(made).toEqual([...made].sort())
        expect(new Set(made).size).toBe(2_000)
      }),
    )
    it.effect("ids carry the clock", () =>
      Effect.gen(function* () {
        const ids = yield* Ids
        const early = yield* ids.event
        yield* TestClock.adjust("1 day")
        const late = yield* ids.event
        expect(late.slice(5, 15) > early.slice(5, 15)).toBe(true)
      }),
    )
    it.effect("secrets are 256 random bits behind their prefix, never twice the same", () =>
      Effect.gen(function* () {
        const ids = yield* Ids
        const keys = yield* Effect.replicateEffect(ids.apiKey, 50)
        const tokens = yield* Effect.replicateEffect(ids.leaseToken, 50)
        for (const key of keys) expect(Redacted.value(key)).toMatch(/^mbx_[0-9a-f]{64}$/)
        for (const token of tokens) expect(Redacted.value(token)).toMatch(/^lease_[0-9a-f]{64}$/)
        expect(new Set([...keys, ...tokens].map((secret) => Redacted.value(secret).slice(-64))).size).toBe(100)
      }),
    )
    it.effect("secrets do not begin alike: no clock is in them", () =>
      Effect.gen(function* () {
        const ids = yield* Ids
        const heads = (yield* Effect.replicateEffect(ids.apiKey, 50)).map((key) => Redacted.value(key).slice(4, 14))
        expect(new Set(heads).size).toBe(50)
      }),
    )
  })
