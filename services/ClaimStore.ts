import { Context, type DateTime, type Effect, type Redacted } from "effect"
import type { Claim, ClaimSuperseded, LeaseInvalid, LeaseLost } from "../src/domain/Claim.ts"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { ProjectNotFound } from "../src/domain/Project.ts"
import type { Principal } from "../src/domain/Principal.ts"
import type { Pruned, PruneStep } from "./Pruning.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/**
 * The control plane's side of leases, where the node keeps the claims itself. One live claim a job: a higher attempt
 * ends the lower ones at once and waits for commits that hold them. Tokens are stored as SHA-256, and kept 24 h past
 * their claim's end so that a keyed upload can still be replayed.
 */
export class ClaimStore extends Context.Tag("services/ClaimStore")<
  ClaimStore,
  {
    /**
     * Takes or renews the claim for `leaseSeconds`. `renewed`: the same attempt, session and body while live; the
     * token is new all the same and the former one is dead. Atomic.
     */
    readonly put: (
      claim: Claim,
      leaseSeconds: number,
    ) => Effect.Effect<
      { readonly token: Redacted.Redacted; readonly expiresAt: DateTime.Utc; readonly renewed: boolean },
      ClaimSuperseded | ProjectNotFound | DependencyUnavailable
    >
    /** Prolongs the live claim by its own lease length. The token must be this job's, and the caller's to use. */
    readonly heartbeat: (options: {
      readonly project: ProjectHandle
      readonly jobId: string
      readonly token: Redacted.Redacted
      readonly principal: Principal
    }) => Effect.Effect<DateTime.Utc, LeaseInvalid | LeaseLost | DependencyUnavailable>
    /** Ends the claim by its token. Releasing an ended claim by its own token again succeeds. */
    readonly release: (options: {
      readonly project: ProjectHandle
      readonly jobId: string
      readonly token: Redacted.Redacted
      readonly principal: Principal
    }) => Effect.Effect<void, LeaseInvalid | LeaseLost | DependencyUnavailable>
    /** Ends whatever claim the job has; idempotent. Returns whether a live one was ended. */
    readonly releaseJob: (project: ProjectHandle, jobId: string) => Effect.Effect<boolean, DependencyUnavailable>
    /** Forgets tokens whose claim ended more than 24 h ago. */
    readonly pruneTokens: (step: PruneStep) => Effect.Effect<Pruned, DependencyUnavailable>
    /**
     * Forgets claims that were taken and ended more than `retentionSeconds` ago, which is more than 24 h. The attempt of
     * a forgotten claim stays known: it and all lower ones are ClaimSuperseded for ever.
     */
    readonly pruneClaims: (retentionSeconds: number, step: PruneStep) => Effect.Effect<Pruned, DependencyUnavailable>
  }
>() {}
