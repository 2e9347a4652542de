import { expect, layer } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { chargeOf } from "../../src/domain/Artifact.ts"
import type { LeaseEnd } from "../../src/domain/Claim.ts"
import {
  beginUpload,
  blobKeyOf,
  callerOf,
  claimOf,
  freshProject,
  leased,
  lineageOf,
  live,
  publish,
  refusal,
  removeAs,
  requestOf,
  sha,
  type SqlLayer,
  type SuiteOptions,
  unknownHandle,
  worker,
} from "./fixtures.ts"
import { metadataCharges } from "./metadataCharges.ts"
import { metadataRaces } from "./metadataRaces.ts"
import { metadataPages } from "./metadataPages.ts"
import { metadataReads } from "./metadataReads.ts"
import { metadataRenewals } from "./metadataRenewals.ts"
import { metadataReplays } from "./metadataReplays.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))
/** The contract of services/MetadataStore, a test a sentence. */
export const metadataStoreSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`MetadataStore: ${name}`, (it) => {
    it.effect("begin in an unknown project is ProjectNotFound", () =>
      Effect.gen(function* () {
        const caller = yield* newCaller
        expect(yield* refusal(beginUpload(caller, { project: unknownHandle() }))).toBe("ProjectNotFound")
      }),
    )
    it.effect("a pending upload is invisible to every reader", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const { id, begun } = yield* beginUpload(caller)
        expect(begun).toEqual({ _tag: "Begun", superseded: undefined })
        expect(yield* refusal(store.find(caller, id, { includeDeleted: true }))).toBe("ArtifactNotFound")
        expect(yield* refusal(store.findContent(caller, id))).toBe("ArtifactNotFound")
        expect(yield* refusal(store.findSigned(id))).toBe("ArtifactNotFound")
        expect(yield* refusal(removeAs(caller, id))).toBe("ArtifactNotFound")
        for (const state of ["ready", "deleted"] as const)
          expect(yield* store.list(caller, { state, limit: 10 })).toEqual({ items: [], nextCursor: undefined })
      }),
    )
    it.effect("a commit makes the artifact ready with everything it was given, and raises the books", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const claim = claimOf(caller.project, { visibility: "private" })
        const { proof } = yield* leased(claim)
        const given = {
          name: "a/b.txt",
          mime: "text/plain; charset=utf-8",
          size: 12_345,
          sha256: sha,
          metadata: { text: "ü", nested: [1, { deep: null }] },
          visibility: "private" as const,
          owner: claim.owner,
          lineage: lineageOf(claim),
        }
        const { artifact, usage } = yield* publish(caller, { ...given, lease: proof })
        expect(artifact).toMatchObject({
          ...given,
          project: caller.project,
          createdBy: { kind: "agent", id: "worker" },
        })
        expect(artifact.deletion).toBeUndefined()
        expect(Math.abs(DateTime.distance(yield* DateTime.now, artifact.createdAt))).toBeLessThan(5_000)
        expect(usage).toMatchObject({ usedBytes: chargeOf(given), artifactCount: 1 })
        expect(yield* store.find(caller, artifact.id, { includeDeleted: false })).toEqual(artifact)
        const found = { artifact, blobKey: blobKeyOf(caller.project, artifact.id) }
        expect(yield* store.findContent(caller, artifact.id)).toEqual(found)
        expect(yield* store.findSigned(artifact.id)).toEqual(found)
      }),
    )
    it.effect("a lease-free artifact has no lineage", () =>
      Effect.gen(function* () {
        expect((yield* publish(yield* newCaller)).artifact.lineage).toBeUndefined()
      }),
    )
    it.effect("a row that is unknown or fenced is UploadFenced to commit, and nothing is charged", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const { id } = yield* beginUpload(caller)
        yield* store.fence(id)
        yield* store.fence(id)
        const unknown = yield* (yield* Ids).artifact
        yield* publish(caller)
        for (const one of [id, unknown])
          expect(yield* refusal(store.commit(yield* requestOf(caller, one)))).toBe("UploadFenced")
        expect((yield* (yield* ProjectStore).get(caller.project)).usage).toMatchObject({
          usedBytes: 10,
          artifactCount: 1,
        })
      }),
    )
    it.effect(
      "lineage, owner or visibility that no lease or another claim than the proof's vouches for is LeaseLost",
      () =>
        Effect.gen(function* () {
          const caller = yield* newCaller
          const claim = claimOf(caller.project)
          const { proof } = yield* leased(claim)
          const given = { lineage: lineageOf(claim), owner: claim.owner, lease: proof }
          const session = lineageOf(claimOf(caller.project, { workerSessionId: "session:2" }))
          const lies = [
            { lease: undefined },
            { lineage: session },
            { owner: worker },
            { visibility: "private" as const },
          ]
          for (const lie of lies) expect(yield* refusal(publish(caller, { ...given, ...lie }))).toBe("LeaseLost")
          yield* publish(caller, given)
        }),
    )
    it.effect(
      "a claim superseded, released, renewed or expired before the commit is LeaseLost and leaves no trace",
      () =>
        Effect.gen(function* () {
          const store = yield* MetadataStore
          const claims = yield* ClaimStore
          const caller = yield* newCaller
          const commitAfter = Effect.fn(function* (
            jobId: string,
            reason: LeaseEnd,
            end: Effect.Effect<unknown, unknown>,
            seconds = 60,
          ) {
            const claim = claimOf(caller.project, { jobId })
            const { proof } = yield* leased(claim, seconds)
            const { id } = yield* beginUpload(caller)
            yield* end
            const request = yield* requestOf(caller, id, { lineage: lineageOf(claim), lease: proof })
            expect(yield* Effect.flip(store.commit(request))).toMatchObject({ _tag: "LeaseLost", jobId, reason })
            expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
          })
          const put = (jobId: string, attempt: number) =>
            claims.put(claimOf(caller.project, { jobId, attempt }), 60).pipe(Effect.asVoid)
          yield* commitAfter("superseded", "superseded", put("superseded", 2))
          yield* commitAfter("renewed", "superseded", put("renewed", 1))
          yield* commitAfter("released", "released", claims.releaseJob(caller.project, "released"))
          yield* commitAfter("expired", "expired", Effect.sleep("1200 millis"), 1)
          expect((yield* (yield* ProjectStore).get(caller.project)).usage).toMatchObject({
            usedBytes: 0,
            artifactCount: 0,
          })
          expect((yield* store.list(caller, { state: "ready", limit: 10 })).items).toEqual([])
        }),
    )
    it.effect("an introspected answer is good for 2 s, and never for an attempt below the highest seen", () =>
      Effect.gen(function* () {
        const caller = yield* newCaller
        const commitAt = Effect.fn(function* (attempt: number, age: number) {
          const askedAtMillis = DateTime.toEpochMillis(yield* DateTime.now) - age
          const lease = { _tag: "Introspected" as const, tokenHash: new Uint8Array(32), askedAtMillis }
          return yield* publish(caller, { lineage: lineageOf(claimOf(caller.project, { attempt })), lease })
        })
        expect(yield* refusal(commitAt(2, 2_500))).toBe("LeaseLost")
        expect((yield* commitAt(2, 0)).artifact.lineage?.attempt).toBe(2)
        yield* commitAt(2, 0)
        expect(yield* refusal(commitAt(1, 0))).toBe("LeaseLost")
        yield* commitAt(3, 0)
      }),
    )
    it.effect("a key that is revoked, expired or another project's is Unauthorized to commit", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const auth = yield* Authenticator
        const caller = yield* newCaller
        const foreign = yield* newCaller
        const { id } = yield* beginUpload(caller)
        const expired = yield* auth.issue({
          project: caller.project,
          principal: worker,
          permissions: [],
          expiresAt: DateTime.subtract(yield* DateTime.now, { minutes: 1 }),
        })
        yield* auth.revoke(caller.project, caller.keyId)
        for (const keyId of [caller.keyId, expired.record.id, foreign.keyId, yield* (yield* Ids).credential])
          expect(yield* refusal(store.commit(yield* requestOf(caller, id, { keyId })))).toBe("Unauthorized")
        expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
      }),
    )
    it.effect("a commit beyond the limit in force is QuotaExceeded with the figures; exactly the limit fits", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const projects = yield* ProjectStore
        const caller = yield* callerOf(yield* freshProject(100))
        yield* publish(caller, { size: 60 })
        const { id } = yield* beginUpload(caller)
        const error = yield* Effect.flip(store.commit(yield* requestOf(caller, id, { size: 41 })))
        expect(error).toMatchObject({ _tag: "QuotaExceeded", limitBytes: 100, usedBytes: 60, requestedBytes: 41 })
        yield* projects.put(caller.project, 80)
        expect(yield* refusal(store.commit(yield* requestOf(caller, id, { size: 40 })))).toBe("QuotaExceeded")
        yield* projects.put(caller.project, 101)
        const { usage } = yield* store.commit(yield* requestOf(caller, id, { size: 41 }))
        expect(usage).toMatchObject({ usedBytes: 101, limitBytes: 101, artifactCount: 2 })
      }),
    )
    it.effect("outcome tells ready, pending and gone apart", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const { artifact, usage } = yield* publish(caller)
        const { id } = yield* beginUpload(caller)
        expect(yield* store.outcome(artifact.id)).toEqual({ _tag: "Ready", artifact, usage })
        expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
        yield* store.fence(id)
        expect(yield* store.outcome(id)).toEqual({ _tag: "Gone" })
        yield* store.forget(id)
        yield* store.forget(id)
        expect(yield* store.outcome(id)).toEqual({ _tag: "Gone" })
      }),
    )
    it.effect("fence and forget leave ready artifacts alone, and forget an unfenced upload too", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const { artifact } = yield* publish(caller)
        const { id } = yield* beginUpload(caller)
        yield* store.fence(artifact.id)
        yield* store.forget(artifact.id)
        yield* store.forget(id)
        expect(yield* store.find(caller, artifact.id, { includeDeleted: false })).toEqual(artifact)
        expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
      }),
    )
    it.effect("unknownBlobKeys leaves out what any pending, fenced or ready artifact or queued removal knows", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const pending = (yield* beginUpload(caller)).upload.blobKey
        const fenced = yield* beginUpload(caller)
        yield* store.fence(fenced.id)
        const ready = yield* store.findContent(caller, (yield* publish(caller)).artifact.id)
        const deleted = yield* removeAs(caller, (yield* publish(caller)).artifact.id)
        const known = [pending, fenced.upload.blobKey, ready.blobKey, deleted.blobKey ?? ""]
        expect(yield* store.unknownBlobKeys([...known, "stranger/a", "stranger/b"])).toEqual([
          "stranger/a",
          "stranger/b",
        ])
        yield* store.forget(fenced.id)
        expect(yield* store.unknownBlobKeys(known)).toEqual([fenced.upload.blobKey])
        expect(yield* store.unknownBlobKeys([])).toEqual([])
      }),
    )
    it.effect("uploadingBlobKeys are those of pending rows that are not fenced", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const pending = (yield* beginUpload(caller)).upload.blobKey
        const fenced = yield* beginUpload(caller)
        yield* store.fence(fenced.id)
        const ready = yield* store.findContent(caller, (yield* publish(caller)).artifact.id)
        const keys = [pending, fenced.upload.blobKey, ready.blobKey, "stranger/a"]
        expect(yield* store.uploadingBlobKeys(keys)).toEqual([pending])
        expect(yield* store.uploadingBlobKeys([])).toEqual([])
      }),
    )
    it.effect("the store answers", () => Effect.flatMap(MetadataStore, ({ ping }) => ping))
    metadataRenewals(it)
    metadataCharges(it)
    metadataReplays(it)
    metadataReads(it)
    metadataPages(it)
    if (options.concurrent === true) metadataRaces(it)
  })
