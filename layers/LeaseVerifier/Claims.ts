import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Effect, Layer } from "effect"
import type { Claim } from "../../src/domain/Claim.ts"
import type { Principal } from "../../src/domain/Principal.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { claimOf, findByToken, hashOf } from "../ClaimStore/claims.ts"
import { Expiring } from "../clients/Expiring.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** How long a live claim is believed without asking again, in milliseconds; the commit asks in any case. */
const believedFor = 1000
const believedAtMost = 10_000

/** One worker's token in one project; none of the parts may contain the separator but the last. */
const keyOf = (project: string, principal: Principal, hash: Buffer) =>
  `${project}/${hash.toString("base64url")}/${principal.id}`

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const believed = new Expiring<Claim>(believedAtMost)

  return LeaseVerifier.of({
    verify: traced("LeaseVerifier.verify")(
      function* (options) {
        const tokenHash = hashOf(options.token)
        const key = keyOf(options.project, options.principal, tokenHash)
        const proof = { _tag: "ClaimRow", tokenHash } as const
        const now = yield* Clock.currentTimeMillis
        const known = believed.get(key, now)
        if (known !== undefined) return { _tag: "Live", claim: known, proof } as const
        const { row, live, reason } = yield* Effect.provideService(findByToken(options), SqlClient.SqlClient, sql)
        const claim = claimOf(row)
        if (!live) return { _tag: "Ended", claim, reason } as const
        believed.set(key, claim, Math.min(now + believedFor, row.expires_at.epochMillis))
        return { _tag: "Live", claim, proof } as const
      },
      Effect.catchTag("SqlError", unavailable("LeaseVerifier.verify")),
    ),
    confirm: ({ token }) => Effect.sync(() => ({ _tag: "ClaimRow", tokenHash: hashOf(token) }) as const),
  })
})

/** Claims in our own table; the commit's transaction checks the row itself. */
export const layer = Layer.effect(LeaseVerifier, make)
