import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
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
  principal,
  publish,
  refusal,
  removeAs,
  requestOf,
  rightOf,
  worker,
} from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))
const keyed = (key: string, jobId?: string, attempt?: number, who = worker) => ({
  idempotency: { key, principal: who, jobId, attempt },
})

const begunFresh = { _tag: "Begun", superseded: undefined }

/** What the contract says of idempotency keys and of repeated commits. */
export const metadataReplays = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("a finished key replays what it made, tombstones included", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const first = yield* beginUpload(caller, keyed("k", "job:1", 1))
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
      expect((yield* beginUpload(caller, keyed("k", "job:1", 1))).begun).toEqual({
        _tag: "Replay",
        artifact: tombstone,
      })
    }),
  )
  it.effect("a key still on its way is taken over: the earlier upload is superseded and holds nothing any more", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const projects = yield* ProjectStore
      const caller = yield* newCaller
      const first = yield* beginUpload(caller, keyed("k"))
      const second = yield* beginUpload(caller, { ...keyed("k"), reservedBytes: 7 })
      expect(second.begun).toEqual({ _tag: "Begun", superseded: first.id })
      expect(yield* refusal(store.renew(first.id, 10, rightOf(caller)))).toBe("UploadSuperseded")
      expect(yield* refusal(store.commit(yield* requestOf(caller, first.id)))).toBe("UploadSuperseded")
      expect(yield* store.outcome(first.id)).toEqual({ _tag: "Gone" })
      expect((yield* projects.quotaSnapshot(caller.project)).reservations).toEqual([{ uploadId: second.id, bytes: 7 }])
      expect((yield* projects.get(caller.project)).pendingCount).toBe(1)
      const third = yield* beginUpload(caller, keyed("k"))
      expect(third.begun).toEqual({ _tag: "Begun", superseded: second.id })
      yield* store.renew(third.id, 10, rightOf(caller))
      const { artifact } = yield* store.commit(yield* requestOf(caller, third.id))
      expect((yield* beginUpload(caller, keyed("k"))).begun).toEqual({ _tag: "Replay", artifact })
      yield* store.forget(first.id)
      expect(yield* refusal(store.renew(first.id, 10, rightOf(caller)))).toBe("UploadFenced")
      expect((yield* projects.get(caller.project)).usage.artifactCount).toBe(1)
    }),
  )
  it.effect("only a live token takes over: with a dead one the key is InProgress and its upload goes on", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const claims = yield* ClaimStore
      const caller = yield* newCaller
      const claim = claimOf(caller.project)
      const former = yield* leased(claim)
      const present = yield* leased(claim)
      const scope = keyed("k", claim.jobId, claim.attempt)
      const first = yield* beginUpload(caller, { ...scope, lease: present.proof })
      expect((yield* beginUpload(caller, { ...scope, lease: former.proof })).begun).toEqual({ _tag: "InProgress" })
      yield* store.renew(first.id, 10, rightOf(caller))
      const second = yield* beginUpload(caller, { ...scope, lease: present.proof })
      expect(second.begun).toEqual({ _tag: "Begun", superseded: first.id })
      yield* claims.releaseJob(caller.project, claim.jobId)
      expect((yield* beginUpload(caller, { ...scope, lease: present.proof })).begun).toEqual({ _tag: "InProgress" })
      yield* store.renew(second.id, 10, rightOf(caller))
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
        expect((yield* beginUpload(caller, scope)).begun).toEqual(begunFresh)
      }
      expect((yield* beginUpload(caller, keyed("k"))).begun).not.toEqual(begunFresh)
      expect((yield* beginUpload(other, keyed("k"))).begun).toEqual(begunFresh)
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
      expect(second.begun).toEqual(begunFresh)
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
