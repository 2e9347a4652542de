import { Effect, Layer } from "effect"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { LeaseInvalid, LeaseLost } from "../../src/domain/Claim.ts"
import type { Principal } from "../../src/domain/Principal.ts"
import {
  atomically,
  endOf,
  hashSecret,
  isLive,
  leaseEndOf,
  MemoryDatabase,
  type MemoryState,
  tokenMemoryMillis,
} from "../clients/Memory.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** The claim a token stands or stood for, if this principal of this project may use it. */
const owned = (state: MemoryState, project: string, principal: Principal, token: string) => {
  const row = state.tokens.get(token)
  if (row === undefined || row.claim.project !== project) return undefined
  const { workerPrincipalId } = row.claim
  return workerPrincipalId === undefined || workerPrincipalId === principal.id ? row : undefined
}

export const layer = Layer.effect(
  LeaseVerifier,
  Effect.map(MemoryDatabase, (state) => ({
    verify: traced("LeaseVerifier.verify")(function* ({ project, principal, token }) {
      const hash = yield* hashSecret(token)
      return yield* atomically((now) => {
        const row = owned(state, project, principal, hash.hex)
        if (row === undefined) return new LeaseInvalid()
        const { claim } = row
        if (isLive(row, hash.hex, now))
          return Effect.succeed({
            _tag: "Live" as const,
            claim,
            proof: { _tag: "ClaimRow" as const, tokenHash: hash.bytes },
          })
        return now - endOf(row) > tokenMemoryMillis
          ? new LeaseLost({})
          : Effect.succeed({ _tag: "Ended" as const, claim, reason: leaseEndOf(row, hash.hex) })
      })
    }),
    confirm: ({ token }) =>
      Effect.map(hashSecret(token), ({ bytes }) => ({ _tag: "ClaimRow" as const, tokenHash: bytes })),
  })),
)
