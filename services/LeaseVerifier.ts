import { Context, type Effect, type Redacted } from "effect"
import type { Claim, LeaseEnd, LeaseInvalid, LeaseLost } from "../src/domain/Claim.ts"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { Principal } from "../src/domain/Principal.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/**
 * What the commit checks the lease by. `ClaimRow`: the transaction locks the claim's row and compares it with the
 * database's clock. `Introspected`: the claim lives elsewhere; the positive answer must be at most 2 s old at the
 * commit, and no later attempt of the job may have been seen. `Ended`: the token was this claim's and is dead: good
 * for reading an earlier answer by its idempotency key, for nothing else.
 */
export type LeaseProof =
  | { readonly _tag: "ClaimRow"; readonly tokenHash: Uint8Array }
  | { readonly _tag: "Introspected"; readonly tokenHash: Uint8Array; readonly askedAtMillis: number }

export type VerifiedLease =
  | { readonly _tag: "Live"; readonly claim: Claim; readonly proof: LeaseProof }
  | { readonly _tag: "Ended"; readonly claim: Claim; readonly reason: LeaseEnd | undefined }

/** Proves that a token stands for a claim held now. A cached answer never outlives the lease. */
export class LeaseVerifier extends Context.Tag("services/LeaseVerifier")<
  LeaseVerifier,
  {
    /**
     * Asked before the body is read; the answer may be a second old, never older than the lease. `LeaseInvalid`: unknown token, another project's, or another worker's.
     * `LeaseLost`: known to be dead, and too old or foreign to say whose it was.
     */
    readonly verify: (options: {
      readonly project: ProjectHandle
      readonly principal: Principal
      readonly token: Redacted.Redacted
    }) => Effect.Effect<VerifiedLease, LeaseInvalid | LeaseLost | DependencyUnavailable>
    /**
     * Asked again right before the commit; returns the proof that the commit's transaction checks. The claim must be
     * the one that was verified. Where claims and artifacts share a database nothing is asked here: the transaction does.
     */
    readonly confirm: (options: {
      readonly claim: Claim
      readonly principal: Principal
      readonly token: Redacted.Redacted
    }) => Effect.Effect<LeaseProof, LeaseInvalid | LeaseLost | DependencyUnavailable>
  }
>() {}
