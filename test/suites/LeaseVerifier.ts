import { expect, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { claimOf, freshProject, live, principal, refusal, type SqlLayer, worker, wrong } from "./fixtures.ts"

/** The contract of services/LeaseVerifier where the node keeps the claims itself, a test a sentence. */
export const leaseVerifierSuite = (name: string, subject: SqlLayer) =>
  layer(subject, live)(`LeaseVerifier: ${name}`, (it) => {
    it.effect("a live token stands for its claim, whole", () =>
      Effect.gen(function* () {
        const claim = claimOf(yield* freshProject(), { workerPrincipalId: worker.id, visibility: "private" })
        const { token } = yield* (yield* ClaimStore).put(claim, 60)
        const lease = yield* (yield* LeaseVerifier).verify({ project: claim.project, principal: worker, token })
        expect(lease._tag).toBe("Live")
        expect(lease.claim).toEqual(claim)
      }),
    )
    it.effect("an absent run and step stay absent", () =>
      Effect.gen(function* () {
        const claim = claimOf(yield* freshProject(), { runId: undefined, stepId: undefined })
        const { token } = yield* (yield* ClaimStore).put(claim, 60)
        const lease = yield* (yield* LeaseVerifier).verify({ project: claim.project, principal: worker, token })
        expect(lease.claim.runId).toBeUndefined()
        expect(lease.claim.stepId).toBeUndefined()
      }),
    )
    it.effect("the proof carries the token's SHA-256, never the token", () =>
      Effect.gen(function* () {
        const claim = claimOf(yield* freshProject())
        const { token } = yield* (yield* ClaimStore).put(claim, 60)
        const proof = yield* (yield* LeaseVerifier).confirm({ claim, principal: worker, token })
        const bytes = new TextEncoder().encode(Redacted.value(token))
        const expected = new Uint8Array(yield* Effect.promise(() => crypto.subtle.digest("SHA-256", bytes)))
        expect(proof._tag).toBe("ClaimRow")
        const verified = yield* (yield* LeaseVerifier).verify({ project: claim.project, principal: worker, token })
        expect(verified).toMatchObject({ _tag: "Live", proof })
        expect([...proof.tokenHash]).toEqual([...expected])
      }),
    )
    it.effect("an unknown token is LeaseInvalid", () =>
      Effect.gen(function* () {
        const leases = yield* LeaseVerifier
        const claim = claimOf(yield* freshProject())
        yield* (yield* ClaimStore).put(claim, 60)
        for (const token of [wrong, Redacted.make(""), Redacted.make("lease_")]) {
          expect(yield* refusal(leases.verify({ project: claim.project, principal: worker, token }))).toBe(
            "LeaseInvalid",
          )
        }
      }),
    )
    it.effect("another project's token is LeaseInvalid, dead ones too", () =>
      Effect.gen(function* () {
        const leases = yield* LeaseVerifier
        const claims = yield* ClaimStore
        const claim = claimOf(yield* freshProject())
        const project = yield* freshProject()
        const { token } = yield* claims.put(claim, 60)
        expect(yield* refusal(leases.verify({ project, principal: worker, token }))).toBe("LeaseInvalid")
        yield* claims.releaseJob(claim.project, claim.jobId)
        expect(yield* refusal(leases.verify({ project, principal: worker, token }))).toBe("LeaseInvalid")
      }),
    )
    it.effect("another worker's token is LeaseInvalid, dead ones too; without a named worker anyone may use it", () =>
      Effect.gen(function* () {
        const leases = yield* LeaseVerifier
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const bound = yield* claims.put(claimOf(project, { workerPrincipalId: worker.id }), 60)
        const free = yield* claims.put(claimOf(project, { jobId: "job:2" }), 60)
        const who = principal("stranger")
        expect(yield* refusal(leases.verify({ project, principal: who, token: bound.token }))).toBe("LeaseInvalid")
        expect((yield* leases.verify({ project, principal: who, token: free.token }))._tag).toBe("Live")
        yield* claims.releaseJob(project, "job:1")
        expect(yield* refusal(leases.verify({ project, principal: who, token: bound.token }))).toBe("LeaseInvalid")
      }),
    )
    it.effect(
      "released, superseded, renewed and expired tokens are Ended with their own claim and why, a second later at the most",
      () =>
        Effect.gen(function* () {
          const leases = yield* LeaseVerifier
          const claims = yield* ClaimStore
          const project = yield* freshProject()
          const released = claimOf(project, { jobId: "released" })
          const superseded = claimOf(project, { jobId: "superseded" })
          const renewed = claimOf(project, { jobId: "renewed" })
          const expired = claimOf(project, { jobId: "expired" })
          const dead = [
            { claim: expired, reason: "expired", token: (yield* claims.put(expired, 1)).token },
            { claim: released, reason: "released", token: (yield* claims.put(released, 60)).token },
            { claim: superseded, reason: "superseded", token: (yield* claims.put(superseded, 60)).token },
            { claim: renewed, reason: "superseded", token: (yield* claims.put(renewed, 60)).token },
          ]
          for (const { claim, token } of dead)
            expect(yield* leases.verify({ project, principal: worker, token })).toMatchObject({ _tag: "Live", claim })
          yield* claims.releaseJob(project, "released")
          yield* claims.put(claimOf(project, { jobId: "superseded", attempt: 2, workerSessionId: "session:2" }), 60)
          yield* claims.put(renewed, 60)
          yield* Effect.sleep("1200 millis")
          // What ended it first counts, whatever came after.
          yield* claims.put(claimOf(project, { jobId: "expired", attempt: 2, workerSessionId: "session:2" }), 60)
          for (const { claim, reason, token } of dead) {
            const lease = yield* leases.verify({ project, principal: worker, token })
            expect(lease).toEqual({ _tag: "Ended", claim, reason })
          }
        }),
    )
    it.effect("a token just seen live is not older than its lease", () =>
      Effect.gen(function* () {
        const leases = yield* LeaseVerifier
        const claim = claimOf(yield* freshProject())
        const { token } = yield* (yield* ClaimStore).put(claim, 1)
        const ask = leases.verify({ project: claim.project, principal: worker, token })
        yield* Effect.sleep("700 millis")
        expect((yield* ask)._tag).toBe("Live")
        yield* Effect.sleep("400 millis")
        expect((yield* ask)._tag).toBe("Ended")
      }),
    )
  })
