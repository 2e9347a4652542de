import { expect, type Vitest } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { SqlServices } from "./fixtures.ts"
import type { LeaseEnd } from "../../src/domain/Claim.ts"
import {
  beginUpload,
  callerOf,
  claimOf,
  freshProject,
  leased,
  lineageOf,
  publish,
  refusal,
  rightOf,
  worker,
} from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** What the contract says of renewals: an open upload goes on by its claim and its key. */
export const metadataRenewals = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("renewing a fenced or unknown upload is UploadFenced", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const { id } = yield* beginUpload(caller)
      yield* store.renew(id, 20, rightOf(caller))
      yield* store.fence(id)
      expect(yield* refusal(store.renew(id, 30, rightOf(caller)))).toBe("UploadFenced")
      expect(yield* refusal(store.renew(yield* (yield* Ids).artifact, 30, rightOf(caller)))).toBe("UploadFenced")
      const { artifact } = yield* publish(caller)
      expect(yield* refusal(store.renew(artifact.id, 30, rightOf(caller)))).toBe("UploadFenced")
    }),
  )
  it.effect(
    "renewing by a claim that was superseded, released, renewed or expired is LeaseLost and renews nothing",
    () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const claims = yield* ClaimStore
        const caller = yield* newCaller
        const renewAfter = Effect.fn(function* (
          jobId: string,
          reason: LeaseEnd,
          end: Effect.Effect<unknown, unknown>,
          seconds = 60,
        ) {
          const claim = claimOf(caller.project, { jobId })
          const { proof } = yield* leased(claim, seconds)
          const { id } = yield* beginUpload(caller)
          const right = rightOf(caller, { lineage: lineageOf(claim), lease: proof })
          yield* store.renew(id, 20, right)
          yield* end
          const lost = yield* Effect.flip(store.renew(id, 30, right))
          expect(lost).toMatchObject({ _tag: "LeaseLost", jobId, attempt: 1, reason })
          const { reservations } = yield* (yield* ProjectStore).quotaSnapshot(caller.project)
          expect(reservations.find(({ uploadId }) => uploadId === id)?.bytes).toBe(20)
        })
        const put = (jobId: string, attempt: number) =>
          claims.put(claimOf(caller.project, { jobId, attempt }), 60).pipe(Effect.asVoid)
        yield* renewAfter("superseded", "superseded", put("superseded", 2))
        yield* renewAfter("renewed", "superseded", put("renewed", 1))
        yield* renewAfter("released", "released", claims.releaseJob(caller.project, "released"))
        yield* renewAfter("expired", "expired", Effect.sleep("1200 millis"), 1)
      }),
  )
  it.effect(
    "renewing by another claim than the token's is LeaseLost; an introspected one was asked for elsewhere",
    () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const claim = claimOf(caller.project)
        const { proof } = yield* leased(claim)
        const { id } = yield* beginUpload(caller)
        const foreign = yield* newCaller
        const { proof: foreignProof } = yield* leased(claimOf(foreign.project))
        const lies = [
          { lease: proof, lineage: undefined },
          { lease: proof, lineage: lineageOf(claimOf(caller.project, { attempt: 2 })) },
          { lease: foreignProof, lineage: lineageOf(claim) },
        ]
        for (const lie of lies) expect(yield* refusal(store.renew(id, 20, rightOf(caller, lie)))).toBe("LeaseLost")
        const lease = { _tag: "Introspected" as const, tokenHash: new Uint8Array(32), askedAtMillis: 0 }
        yield* store.renew(id, 20, rightOf(caller, { lineage: lineageOf(claim), lease }))
      }),
  )
  it.effect("renewing by a key that is revoked, expired or another project's is Unauthorized", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const auth = yield* Authenticator
      const caller = yield* newCaller
      const foreign = yield* newCaller
      const { id } = yield* beginUpload(caller)
      yield* store.renew(id, 20, rightOf(caller))
      const expired = yield* auth.issue({
        project: caller.project,
        principal: worker,
        permissions: [],
        expiresAt: DateTime.subtract(yield* DateTime.now, { minutes: 1 }),
      })
      yield* auth.revoke(caller.project, caller.keyId)
      for (const keyId of [caller.keyId, expired.record.id, foreign.keyId])
        expect(yield* refusal(store.renew(id, 30, rightOf(caller, { keyId })))).toBe("Unauthorized")
      yield* store.fence(id)
      expect(yield* refusal(store.renew(id, 30, rightOf(caller)))).toBe("UploadFenced")
    }),
  )
}
