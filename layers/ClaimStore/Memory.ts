import { Effect, Equal, Layer, type Redacted } from "effect"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Ids } from "../../services/Ids.ts"
import { ClaimSuperseded, LeaseInvalid, LeaseLost } from "../../src/domain/Claim.ts"
import type { Principal } from "../../src/domain/Principal.ts"
import {
  atomically,
  type ClaimRow,
  endOf,
  findProject,
  hashSecret,
  instant,
  isLive,
  jobKey,
  leaseEndOf,
  MemoryDatabase,
  pruneMap,
  tokenMemoryMillis,
} from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

interface Use {
  readonly project: string
  readonly jobId: string
  readonly token: Redacted.Redacted
  readonly principal: Principal
}

export const layer = Layer.effect(
  ClaimStore,
  Effect.gen(function* () {
    const state = yield* MemoryDatabase
    const ids = yield* Ids

    const lost = (row: ClaimRow, token: string) =>
      new LeaseLost({ jobId: row.claim.jobId, attempt: row.claim.attempt, reason: leaseEndOf(row, token) })

    /** Runs `body` on the claim this token stands or stood for, if it is this job's and the caller's to use. */
    const using = <A>(
      use: Use,
      body: (row: ClaimRow, live: boolean, token: string, now: number) => Effect.Effect<A, LeaseLost>,
    ) =>
      Effect.flatMap(hashSecret(use.token), ({ hex }) =>
        atomically((now): Effect.Effect<A, LeaseInvalid | LeaseLost> => {
          const row = state.tokens.get(hex)
          if (row === undefined || row.claim.project !== use.project || row.claim.jobId !== use.jobId)
            return new LeaseInvalid()
          const { workerPrincipalId } = row.claim
          if (workerPrincipalId !== undefined && workerPrincipalId !== use.principal.id) return new LeaseInvalid()
          return body(row, isLive(row, hex, now), hex, now)
        }),
      )

    return {
      put: traced("ClaimStore.put")(function* (claim, leaseSeconds) {
        const token = yield* ids.leaseToken
        const { hex } = yield* hashSecret(token)
        return yield* atomically((now) =>
          Effect.flatMap(findProject(state, claim.project), () => {
            const key = jobKey(claim.project, claim.jobId)
            const expiresAt = now + leaseSeconds * 1_000
            const answer = (renewed: boolean) => Effect.succeed({ token, expiresAt: instant(expiresAt), renewed })
            const held = state.claims.get(key)
            const highestAttempt = Math.max(held?.claim.attempt ?? -1, state.attempts.get(key) ?? -1)
            if (claim.attempt <= highestAttempt) {
              if (held === undefined || !Equal.equals(held.claim, claim) || !isLive(held, held.token, now))
                return new ClaimSuperseded({ jobId: claim.jobId, attempt: claim.attempt, highestAttempt })
              Object.assign(held, { token: hex, leaseSeconds, expiresAt })
              state.tokens.set(hex, held)
              return answer(true)
            }
            if (held !== undefined) held.ended ??= { at: now, by: "supersede" }
            const row: ClaimRow = { claim, leaseSeconds, expiresAt, token: hex, ended: undefined, takenAt: now }
            state.claims.set(key, row)
            state.tokens.set(hex, row)
            return answer(false)
          }),
        )
      }),
      heartbeat: traced("ClaimStore.heartbeat")((use) =>
        using(use, (row, live, token, now) => {
          if (!live) return lost(row, token)
          row.expiresAt = now + row.leaseSeconds * 1_000
          return Effect.succeed(instant(row.expiresAt))
        }),
      ),
      release: traced("ClaimStore.release")((use) =>
        using(use, (row, live, token, now) => {
          if (live) row.ended = { at: now, by: "release" }
          return row.ended?.by === "release" && row.token === token ? Effect.void : lost(row, token)
        }),
      ),
      releaseJob: traced("ClaimStore.releaseJob")((project, jobId) =>
        atomically((now) => {
          const row = state.claims.get(jobKey(project, jobId))
          if (row === undefined || !isLive(row, row.token, now)) return Effect.succeed(false)
          row.ended = { at: now, by: "release" }
          return Effect.succeed(true)
        }),
      ),
      pruneTokens: traced("ClaimStore.pruneTokens")((step) =>
        atomically((now) =>
          Effect.succeed(pruneMap(state.tokens, step, (row) => now - endOf(row) > tokenMemoryMillis)),
        ),
      ),
      pruneClaims: traced("ClaimStore.pruneClaims")((retentionSeconds, step) =>
        atomically((now) => {
          const since = now - retentionSeconds * 1_000
          const keep = ({ claim }: ClaimRow, key: string) =>
            state.attempts.set(key, Math.max(claim.attempt, state.attempts.get(key) ?? -1))
          return Effect.succeed(pruneMap(state.claims, step, (row) => row.takenAt < since && endOf(row) < since, keep))
        }),
      ),
    }
  }),
)
