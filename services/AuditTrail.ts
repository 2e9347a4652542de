import { Context, type Effect } from "effect"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** What an administrator, or a key that manages claims, may do to others. */
export type AuditedAction = "project.changed" | "key.issued" | "key.revoked" | "claim.overridden"

/** One act. Nothing here is a secret. */
export interface AuditEntry {
  readonly action: AuditedAction
  readonly project: ProjectHandle
  /** The id of the key, or of the job; absent for the project itself. */
  readonly subject: string | undefined
  /** Who: `administrator`, or the kind and id of the principal whose key was used. */
  readonly actor: { readonly kind: string; readonly id: string }
  /** `X-Request-Id` of the call. */
  readonly requestId: string
  /** What was asked for, e.g. `{quota_bytes: 1000}`; as JSON. */
  readonly details: Readonly<Record<string, unknown>>
}

/** Who did what to whom, kept for ever. */
export class AuditTrail extends Context.Tag("services/AuditTrail")<
  AuditTrail,
  {
    /**
     * Carries `act` out and records the entry made of its result, in one transaction: there is no act without its
     * entry, and no entry for an act that failed. `undefined`: there is nothing to record.
     */
    readonly recorded: <A, E, R>(
      act: Effect.Effect<A, E, R>,
      entry: (result: A) => AuditEntry | undefined,
    ) => Effect.Effect<A, E | DependencyUnavailable, R>
  }
>() {}
