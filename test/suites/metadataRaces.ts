import { expect, type Vitest } from "@effect/vitest"
import { Effect, Either } from "effect"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { SqlServices } from "./fixtures.ts"
import {
  beginUpload,
  callerOf,
  claimOf,
  freshProject,
  leased,
  lineageOf,
  publish,
  removeAs,
  requestOf,
} from "./fixtures.ts"

const atOnce = { concurrency: "unbounded" } as const

/** What the contract says of callers that meet. */
export const metadataRaces = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("deletes at once free the bytes once", () =>
    Effect.gen(function* () {
      const caller = yield* callerOf(yield* freshProject())
      yield* publish(caller, { size: 30 })
      const { artifact } = yield* publish(caller, { size: 50 })
      const results = yield* Effect.all(
        Array.from({ length: 6 }, () => removeAs(caller, artifact.id)),
        atOnce,
      )
      expect(results.filter(({ usage }) => usage !== undefined)).toHaveLength(1)
      expect((yield* (yield* ProjectStore).get(caller.project)).usage).toMatchObject({
        usedBytes: 30,
        artifactCount: 1,
      })
    }),
  )
  it.effect("of commits at once for the last room only what fits is made", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject(100))
      const requests = yield* Effect.replicateEffect(
        Effect.flatMap(beginUpload(caller), ({ id }) => requestOf(caller, id, { size: 40 })),
        6,
      )
      const results = yield* Effect.forEach(requests, (request) => Effect.either(store.commit(request)), atOnce)
      expect(results.filter(Either.isRight)).toHaveLength(2)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("QuotaExceeded")
      expect((yield* (yield* ProjectStore).get(caller.project)).usage.usedBytes).toBe(80)
    }),
  )
  it.effect("begins at once with one key supersede one another in a row, and one upload stays", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject())
      const idempotency = { key: "k", principal: caller.principal }
      const uploads = yield* Effect.all(
        Array.from({ length: 12 }, () => beginUpload(caller, { idempotency })),
        atOnce,
      )
      const superseded = uploads.flatMap(({ begun }) => (begun._tag === "Begun" && begun.superseded) || [])
      expect(uploads.every(({ begun }) => begun._tag === "Begun")).toBe(true)
      expect(new Set(superseded).size).toBe(11)
      const results = yield* Effect.forEach(
        uploads,
        ({ id }) => Effect.flatMap(requestOf(caller, id), (request) => Effect.either(store.commit(request))),
        atOnce,
      )
      expect(results.filter(Either.isRight)).toHaveLength(1)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("UploadSuperseded")
      expect((yield* (yield* ProjectStore).get(caller.project)).usage.artifactCount).toBe(1)
    }),
  )
  it.effect("a commit and a take-over at once: the artifact is replayed, or its upload is superseded", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject())
      for (let round = 0; round < 8; round++) {
        const idempotency = { key: `k${round}`, principal: caller.principal }
        const first = yield* beginUpload(caller, { idempotency })
        const request = yield* requestOf(caller, first.id)
        const [committed, second] = yield* Effect.all(
          [Effect.either(store.commit(request)), beginUpload(caller, { idempotency })],
          atOnce,
        )
        if (Either.isRight(committed)) {
          expect(second.begun).toEqual({ _tag: "Replay", artifact: committed.right.artifact })
          continue
        }
        expect(committed.left._tag).toBe("UploadSuperseded")
        expect(second.begun).toEqual({ _tag: "Begun", superseded: first.id })
        yield* store.commit(yield* requestOf(caller, second.id))
      }
      expect((yield* (yield* ProjectStore).get(caller.project)).usage.artifactCount).toBe(8)
    }),
  )
  it.effect("a commit and a fence at once: ready or gone, never both", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject())
      let ready = 0
      for (let round = 0; round < 8; round++) {
        const { id } = yield* beginUpload(caller)
        const request = yield* requestOf(caller, id)
        const [committed] = yield* Effect.all([Effect.either(store.commit(request)), store.fence(id)], atOnce)
        expect((yield* store.outcome(id))._tag).toBe(Either.isRight(committed) ? "Ready" : "Gone")
        if (Either.isRight(committed)) ready++
      }
      expect((yield* (yield* ProjectStore).get(caller.project)).usage.artifactCount).toBe(ready)
    }),
  )
  it.effect("superseding waits for commits that hold the claim: none becomes ready after it answered", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject())
      const claim = claimOf(caller.project)
      const { proof } = yield* leased(claim)
      const requests = yield* Effect.replicateEffect(
        Effect.flatMap(beginUpload(caller), ({ id }) =>
          requestOf(caller, id, { lineage: lineageOf(claim), lease: proof }),
        ),
        8,
      )
      const next = claimOf(caller.project, { attempt: 2, workerSessionId: "session:2" })
      const supersede = Effect.gen(function* () {
        yield* (yield* ClaimStore).put(next, 60)
        return (yield* (yield* ProjectStore).get(caller.project)).usage.artifactCount
      })
      const [results, counted] = yield* Effect.all(
        [Effect.forEach(requests, (request) => Effect.either(store.commit(request)), atOnce), supersede],
        atOnce,
      )
      expect(results.filter(Either.isRight)).toHaveLength(counted)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("LeaseLost")
    }),
  )
}
