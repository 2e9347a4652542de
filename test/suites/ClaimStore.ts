import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Either, Redacted } from "effect"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import type { Claim, LeaseEnd } from "../../src/domain/Claim.ts"
import {
  claimOf,
  freshProject,
  live,
  principal,
  refusal,
  type SqlLayer,
  type SuiteOptions,
  unknownHandle,
  worker,
  wrong,
} from "./fixtures.ts"

const use = (claim: Claim, token: Redacted.Redacted, who = worker) => ({
  project: claim.project,
  jobId: claim.jobId,
  token,
  principal: who,
})

/** Neither is possible any more, and both say why. */
const expectLost = Effect.fn(function* (options: ReturnType<typeof use>, reason: LeaseEnd) {
  const claims = yield* ClaimStore
  const lost = { _tag: "LeaseLost", jobId: options.jobId, reason }
  expect(yield* Effect.flip(claims.heartbeat(options))).toMatchObject(lost)
  expect(yield* Effect.flip(claims.release(options))).toMatchObject(lost)
})

const isLive = (claim: Claim, token: Redacted.Redacted) =>
  LeaseVerifier.pipe(
    Effect.flatMap((leases) => leases.verify({ project: claim.project, principal: worker, token })),
    Effect.map((lease) => lease._tag === "Live"),
  )

/** The contract of services/ClaimStore, a test a sentence. */
export const claimStoreSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`ClaimStore: ${name}`, (it) => {
    it.effect("put takes the claim for the given seconds", () =>
      Effect.gen(function* () {
        const claim = claimOf(yield* freshProject())
        const now = yield* DateTime.now
        const { token, expiresAt, renewed } = yield* (yield* ClaimStore).put(claim, 60)
        expect(renewed).toBe(false)
        expect(Redacted.value(token)).toMatch(/^lease_[0-9a-f]{64}$/)
        const seconds = DateTime.distance(now, expiresAt) / 1_000
        expect(seconds).toBeGreaterThan(55)
        expect(seconds).toBeLessThan(65)
        expect(yield* isLive(claim, token)).toBe(true)
      }),
    )
    it.effect("put in an unknown project is ProjectNotFound", () =>
      Effect.gen(function* () {
        expect(yield* refusal((yield* ClaimStore).put(claimOf(unknownHandle()), 60))).toBe("ProjectNotFound")
      }),
    )
    it.effect("the same attempt, session and body while live renews with a new token, and the former dies", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const claim = claimOf(yield* freshProject())
        const first = yield* claims.put(claim, 60)
        const second = yield* claims.put(claim, 60)
        expect(second.renewed).toBe(true)
        expect(Redacted.value(second.token)).not.toBe(Redacted.value(first.token))
        expect(yield* isLive(claim, first.token)).toBe(false)
        expect(yield* isLive(claim, second.token)).toBe(true)
        yield* expectLost(use(claim, first.token), "superseded")
      }),
    )
    it.effect("the same attempt with another session or body is ClaimSuperseded and changes nothing", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const { token } = yield* claims.put(claimOf(project), 60)
        for (const over of [
          { workerSessionId: "session:2" },
          { runId: "run:2" },
          { stepId: undefined },
          { owner: principal("owner", "user") },
          { workerPrincipalId: "worker" },
          { visibility: "private" as const },
        ]) {
          const error = yield* Effect.flip(claims.put(claimOf(project, over), 60))
          expect(error).toMatchObject({ _tag: "ClaimSuperseded", jobId: "job:1", attempt: 1, highestAttempt: 1 })
        }
        expect(yield* isLive(claimOf(project), token)).toBe(true)
      }),
    )
    it.effect("a higher attempt ends the lower at once", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const old = claimOf(project)
        const { token } = yield* claims.put(old, 60)
        const next = claimOf(project, { attempt: 3, workerSessionId: "session:3" })
        const taken = yield* claims.put(next, 60)
        expect(taken.renewed).toBe(false)
        expect(yield* isLive(old, token)).toBe(false)
        expect(yield* isLive(next, taken.token)).toBe(true)
        yield* expectLost(use(old, token), "superseded")
      }),
    )
    it.effect("a lower attempt is ClaimSuperseded, also after the higher has ended", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        yield* claims.put(claimOf(project, { attempt: 3 }), 60)
        const error = yield* Effect.flip(claims.put(claimOf(project, { attempt: 2 }), 60))
        expect(error).toMatchObject({ _tag: "ClaimSuperseded", attempt: 2, highestAttempt: 3 })
        yield* claims.releaseJob(project, "job:1")
        expect(yield* refusal(claims.put(claimOf(project, { attempt: 2 }), 60))).toBe("ClaimSuperseded")
      }),
    )
    it.effect("an ended attempt cannot be taken again; a higher one can", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const claim = claimOf(project)
        const { token } = yield* claims.put(claim, 60)
        yield* claims.release(use(claim, token))
        expect(yield* refusal(claims.put(claim, 60))).toBe("ClaimSuperseded")
        expect((yield* claims.put(claimOf(project, { attempt: 2 }), 60)).renewed).toBe(false)
      }),
    )
    it.effect("jobs of the same name in two projects do not touch each other", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const one = claimOf(yield* freshProject())
        const two = claimOf(yield* freshProject(), { attempt: 2 })
        const { token } = yield* claims.put(one, 60)
        yield* claims.put(two, 60)
        expect(yield* isLive(one, token)).toBe(true)
      }),
    )
    it.effect("a heartbeat prolongs by the claim's own lease length; after the end it is LeaseLost", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const claim = claimOf(yield* freshProject())
        const { token, expiresAt } = yield* claims.put(claim, 1)
        yield* Effect.sleep("500 millis")
        const later = yield* claims.heartbeat(use(claim, token))
        expect(DateTime.distance(expiresAt, later)).toBeGreaterThan(300)
        expect(DateTime.distance(expiresAt, later)).toBeLessThan(1_500)
        yield* Effect.sleep("1200 millis")
        yield* expectLost(use(claim, token), "expired")
        expect(yield* refusal(claims.put(claim, 60))).toBe("ClaimSuperseded")
      }),
    )
    it.effect("an unknown token, another job's, another project's or another worker's is LeaseInvalid", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const claim = claimOf(project, { workerPrincipalId: worker.id })
        const { token } = yield* claims.put(claim, 60)
        const other = claimOf(project, { jobId: "job:2" })
        yield* claims.put(other, 60)
        const foreign = claimOf(yield* freshProject())
        yield* claims.put(foreign, 60)
        for (const options of [
          use(claim, wrong),
          use(other, token),
          use(foreign, token),
          use(claim, token, principal("stranger")),
        ]) {
          expect(yield* refusal(claims.heartbeat(options))).toBe("LeaseInvalid")
          expect(yield* refusal(claims.release(options))).toBe("LeaseInvalid")
        }
        expect(yield* isLive(claim, token)).toBe(true)
      }),
    )
    it.effect("release ends the claim, and succeeds again by the same token", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const claim = claimOf(yield* freshProject())
        const { token } = yield* claims.put(claim, 60)
        yield* claims.release(use(claim, token))
        expect(yield* isLive(claim, token)).toBe(false)
        yield* claims.release(use(claim, token))
        const lost = yield* Effect.flip(claims.heartbeat(use(claim, token)))
        expect(lost).toMatchObject({ _tag: "LeaseLost", reason: "released" })
      }),
    )
    it.effect("releaseJob ends whatever claim the job has, and is idempotent", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const claim = claimOf(yield* freshProject())
        const { token } = yield* claims.put(claim, 60)
        expect(yield* claims.releaseJob(claim.project, claim.jobId)).toBe(true)
        expect(yield* claims.releaseJob(claim.project, claim.jobId)).toBe(false)
        expect(yield* claims.releaseJob(claim.project, "no such job")).toBe(false)
        expect(yield* isLive(claim, token)).toBe(false)
      }),
    )
    it.effect("pruneTokens keeps tokens whose claim lives or ended within 24 h", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        const ended = claimOf(project)
        const kept = claimOf(project, { jobId: "job:2" })
        const one = yield* claims.put(ended, 60)
        const two = yield* claims.put(kept, 60)
        yield* claims.release(use(ended, one.token))
        expect(yield* claims.pruneTokens({ limit: 100 })).toEqual({ removed: 0, next: undefined })
        expect(yield* isLive(ended, one.token)).toBe(false)
        expect(yield* isLive(kept, two.token)).toBe(true)
      }),
    )
    it.effect("pruneClaims forgets claims that ended long ago, a step at a time, and no live one", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        yield* claims.pruneClaims(0, { limit: 1_000 })
        const kept = claimOf(project, { jobId: "job:kept" })
        const { token } = yield* claims.put(kept, 60)
        for (const jobId of ["job:1", "job:2", "job:3"]) {
          yield* claims.put(claimOf(project, { jobId }), 60)
          yield* claims.releaseJob(project, jobId)
        }
        expect(yield* claims.pruneClaims(3_600, { limit: 2 })).toEqual({ removed: 0, next: undefined })
        yield* Effect.sleep("1200 millis")
        let removed = 0
        let after: string | undefined
        do {
          const step = yield* claims.pruneClaims(1, { limit: 2, after })
          expect(step.removed).toBeLessThanOrEqual(2)
          removed += step.removed
          after = step.next
        } while (after !== undefined)
        expect(removed).toBe(3)
        expect(yield* isLive(kept, token)).toBe(true)
      }),
    )
    it.effect("an attempt that was forgotten cannot be taken again, nor a lower one; a higher one can", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const project = yield* freshProject()
        yield* claims.put(claimOf(project, { attempt: 2 }), 60)
        yield* claims.put(claimOf(project, { attempt: 4 }), 60)
        yield* claims.releaseJob(project, "job:1")
        yield* Effect.sleep("1200 millis")
        expect((yield* claims.pruneClaims(1, { limit: 1_000 })).removed).toBeGreaterThan(0)
        for (const attempt of [4, 3, 2, 1]) {
          const error = yield* Effect.flip(claims.put(claimOf(project, { attempt }), 60))
          expect(error).toMatchObject({ _tag: "ClaimSuperseded", attempt, highestAttempt: 4 })
        }
        expect((yield* claims.put(claimOf(project, { attempt: 5 }), 60)).renewed).toBe(false)
      }),
    )
    if (options.concurrent === true) {
      it.effect("of attempts put at once the highest holds the job, and it alone", () =>
        Effect.gen(function* () {
          const claims = yield* ClaimStore
          const project = yield* freshProject()
          const results = yield* Effect.forEach(
            [1, 2, 3, 4, 5, 6],
            (attempt) => Effect.either(claims.put(claimOf(project, { attempt }), 60)),
            { concurrency: "unbounded" },
          )
          const alive = yield* Effect.forEach(results, (result, index) =>
            Either.isLeft(result)
              ? Effect.succeed(false)
              : isLive(claimOf(project, { attempt: index + 1 }), result.right.token),
          )
          expect(alive).toEqual([false, false, false, false, false, true])
        }),
      )
      it.effect("of renewals at once one token is live", () =>
        Effect.gen(function* () {
          const claims = yield* ClaimStore
          const claim = claimOf(yield* freshProject())
          const taken = yield* Effect.all(
            Array.from({ length: 6 }, () => claims.put(claim, 60)),
            { concurrency: "unbounded" },
          )
          const alive = yield* Effect.forEach(taken, ({ token }) => isLive(claim, token))
          expect(alive.filter(Boolean)).toHaveLength(1)
          expect(taken.filter(({ renewed }) => !renewed)).toHaveLength(1)
        }),
      )
    }
  })
