import { SqlClient } from "@effect/sql"
import { Effect, Layer } from "effect"
import { LeaseLost } from "../../src/domain/Claim.ts"
import { LeaseVerifier, type VerifiedLease } from "../../services/LeaseVerifier.ts"
import { claimOf, findByToken, sameClaim } from "../ClaimStore/claims.ts"
import { unavailable } from "../clients/sqlErrors.ts"

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const lookUp = (options: Parameters<typeof findByToken>[0]) =>
    Effect.provideService(findByToken(options), SqlClient.SqlClient, sql)

  return LeaseVerifier.of({
    verify: Effect.fn("LeaseVerifier.verify")(
      function* (options) {
        const { row, hash, live } = yield* lookUp(options)
        const claim = claimOf(row)
        const lease: VerifiedLease = live
          ? { _tag: "Live", claim, proof: { _tag: "ClaimRow", tokenHash: hash } }
          : { _tag: "Ended", claim }
        return lease
      },
      Effect.catchTag("SqlError", unavailable("LeaseVerifier.verify")),
    ),
    confirm: Effect.fn("LeaseVerifier.confirm")(
      function* ({ claim, principal, token }) {
        const { row, hash, live } = yield* lookUp({ project: claim.project, principal, token })
        if (!live || !sameClaim(claimOf(row), claim))
          return yield* new LeaseLost({ jobId: claim.jobId, attempt: claim.attempt })
        return { _tag: "ClaimRow", tokenHash: hash } as const
      },
      Effect.catchTag("SqlError", unavailable("LeaseVerifier.confirm")),
    ),
  })
})

/** Claims in our own table; the commit's transaction checks the row itself. */
export const layer = Layer.effect(LeaseVerifier, make)
