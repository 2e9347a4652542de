import { Context, type Effect, type Redacted } from "effect"
import type { ArtifactId, CredentialId, EventId } from "../src/domain/Ids.ts"

/**
 * Makes ids and secrets. Ids are ULIDs, increasing within a process; secrets are 256 random bits behind their prefix
 * (`mbx_`, `lease_`), 64 hex digits, and never ULIDs, whose leading half is the clock.
 */
export class Ids extends Context.Tag("services/Ids")<
  Ids,
  {
    readonly artifact: Effect.Effect<ArtifactId>
    readonly credential: Effect.Effect<CredentialId>
    readonly event: Effect.Effect<EventId>
    readonly apiKey: Effect.Effect<Redacted.Redacted>
    readonly leaseToken: Effect.Effect<Redacted.Redacted>
  }
>() {}
