import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { SqlServices } from "./fixtures.ts"
import { beginUpload, callerOf, freshProject, principal, publish, removeAs, requestOf, worker } from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))
const keyed = (key: string, jobId?: string, attempt?: number, who = worker) => ({
  idempotency: { key, principal: who, jobId, attempt },
})

/** What the contract says of idempotency keys and of repeated commits. */
export const metadataReplays = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("a key still on its way is InProgress, a finished one replays what it made, tombstones included", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const first = yield* beginUpload(caller, keyed("k", "job:1", 1))
      expect((yield* beginUpload(caller, keyed("k", "job:1", 1))).begun).toEqual({ _tag: "InProgress" })
      expect(yield* store.findReplay(caller.project, keyed("k", "job:1", 1).idempotency)).toEqual({
        _tag: "InProgress",
      })
      const { artifact } = yield* store.commit(yield* requestOf(caller, first.id))
      const again = yield* beginUpload(caller, keyed("k", "job:1", 1))
      expect(again.begun).toEqual({ _tag: "Replay", artifact })
      expect(yield* store.outcome(again.id)).toEqual({ _tag: "Gone" })
      const { artifact: tombstone } = yield* removeAs(caller, artifact.id)
      expect(yield* store.findReplay(caller.project, keyed("k", "job:1", 1).idempotency)).toEqual({
        _tag: "Replay",
        artifact: tombstone,
      })
    }),
  )
  it.effect("a key is scoped to project, principal, job and attempt, each", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const other = yield* newCaller
      const scopes = [
        keyed("k"),
        keyed("k", "job:1", 1),
        keyed("k", "job:1", 2),
        keyed("k", "job:2", 1),
        keyed("k2", "job:1", 1),
        keyed("k", "job:1", 1, principal("worker", "user")),
        keyed("k", "job:1", 1, principal("other")),
      ]
      for (const scope of scopes) {
        expect(yield* store.findReplay(caller.project, scope.idempotency)).toBeUndefined()
        expect((yield* beginUpload(caller, scope)).begun).toEqual({ _tag: "Begun" })
      }
      expect((yield* beginUpload(caller, keyed("k"))).begun).toEqual({ _tag: "InProgress" })
      expect((yield* beginUpload(other, keyed("k"))).begun).toEqual({ _tag: "Begun" })
    }),
  )
  it.effect("a fence frees the key, so that the next upload may have it", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const first = yield* beginUpload(caller, keyed("k"))
      yield* store.fence(first.id)
      expect(yield* store.findReplay(caller.project, keyed("k").idempotency)).toBeUndefined()
      const second = yield* beginUpload(caller, keyed("k"))
      expect(second.begun).toEqual({ _tag: "Begun" })
      yield* store.commit(yield* requestOf(caller, second.id))
    }),
  )
  it.effect("a commit repeated after its success answers the same and charges nothing", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const first = yield* publish(caller)
      expect(yield* store.commit(yield* requestOf(caller, first.artifact.id))).toEqual(first)
      expect((yield* (yield* ProjectStore).get(caller.project)).usage).toEqual(first.usage)
    }),
  )
}
