import { Schema } from "effect"
import { ExternalId, ProjectHandle } from "./Ids.ts"
import { Principal } from "./Principal.ts"

export const Visibility = Schema.Literal("shared", "private")
export type Visibility = typeof Visibility.Type

export const Attempt = Schema.Int.pipe(Schema.between(0, 2_147_483_647))

/** A job held by one worker session for one attempt: the only source of an artifact's lineage, owner and visibility. */
export class Claim extends Schema.Class<Claim>("Claim")({
  project: ProjectHandle,
  jobId: ExternalId,
  attempt: Attempt,
  workerSessionId: ExternalId,
  runId: Schema.optional(ExternalId),
  stepId: Schema.optional(ExternalId),
  owner: Principal,
  /** When set, only the principal with this id may use the claim's token. */
  workerPrincipalId: Schema.optional(ExternalId),
  visibility: Visibility,
}) {}

/** The upload or call carries no lease token and none may be done without. */
export class LeaseRequired extends Schema.TaggedError<LeaseRequired>()("LeaseRequired", {}) {}

/** The token is unknown, of another project, or of another worker's principal. */
export class LeaseInvalid extends Schema.TaggedError<LeaseInvalid>()("LeaseInvalid", {}) {}

/** What ended a lease first. `superseded`: a later attempt took the job, or the claim got a newer token. */
export const LeaseEnd = Schema.Literal("expired", "superseded", "released")
export type LeaseEnd = typeof LeaseEnd.Type

/** The claim was held once and is not any more. `reason` is absent where it is not known: a control plane's claims. */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", {
  jobId: Schema.optional(Schema.String),
  attempt: Schema.optional(Schema.Int),
  reason: Schema.optional(LeaseEnd),
}) {}

/** The claim cannot be taken: a later attempt holds the job, or this attempt has ended or differs. */
export class ClaimSuperseded extends Schema.TaggedError<ClaimSuperseded>()("ClaimSuperseded", {
  jobId: Schema.String,
  attempt: Schema.Int,
  highestAttempt: Schema.Int,
}) {}
