import { Clock, Effect } from "effect"
import { ActorMessages } from "../../services/ActorMessages.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import type { Pruned, PruneStep } from "../../services/Pruning.ts"
import { traced } from "../telemetry/Spans.ts"

/** What one statement looks at, in rows: far from what fits into the 5 s that it may take. */
const batch = 10_000
/** How long a run goes on: some millions of rows, more than are written until the next one. Milliseconds. */
const budgetMillis = 30_000
/** How long messages of the engine are kept after they were sent: past any run that could be sent again. Seconds. */
const messageAge = 3600

/**
 * Step after step, until nothing more is due or the time is used up; what is left the next run does. Each step is done
 * for itself, so that a run that fails later has not worked for nothing. Returns how many rows were removed.
 */
export const pruneAll = traced("Pruning.pruneAll")(function* <E, R>(
  prune: (step: PruneStep) => Effect.Effect<Pruned, E, R>,
  limits: { readonly batch: number; readonly millis: number } = { batch, millis: budgetMillis },
) {
  const until = (yield* Clock.currentTimeMillis) + limits.millis
  let removed = 0
  let after: string | undefined
  do {
    const step = yield* prune({ limit: limits.batch, after })
    removed += step.removed
    after = step.next
  } while (after !== undefined && (yield* Clock.currentTimeMillis) < until)
  if (removed > 0) yield* Effect.logDebug("pruned").pipe(Effect.annotateLogs({ removed }))
  return removed
})

/** Events past their retention. */
export const pruneEvents = (retentionSeconds: number) =>
  Effect.flatMap(Outbox, (outbox) => pruneAll((step) => outbox.prune(retentionSeconds, step)))

/** Tokens a day past their claim's end. */
export const pruneTokens = Effect.flatMap(ClaimStore, (claims) => pruneAll(claims.pruneTokens))

/** Claims past their retention. */
export const pruneClaims = (retentionSeconds: number) =>
  Effect.flatMap(ClaimStore, (claims) => pruneAll((step) => claims.pruneClaims(retentionSeconds, step)))

/** Old messages of the actor engine. */
export const pruneMessages = Effect.flatMap(ActorMessages, (messages) =>
  pruneAll((step) => messages.prune(messageAge, step)),
)
