import { Effect, FiberRef } from "effect"
import { type AuditedAction, AuditTrail } from "../../services/AuditTrail.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import type { ProjectHandle } from "../domain/Ids.ts"
import { currentAnswer } from "../telemetry/Subject.ts"
import { CurrentCaller } from "./Auth.ts"

/**
 * Carries out what an administrator, or a key that manages claims, does to others: with an entry of the audit trail, and
 * a line of the log, which has the request's id. `subject` of the result is the id of the key or of the job.
 */
export const audited = <A, E, R>(
  act: Effect.Effect<A, E, R>,
  what: {
    readonly action: AuditedAction
    readonly project: ProjectHandle
    readonly subject?: (result: A) => string
    readonly details?: Readonly<Record<string, unknown>>
    /** Whether the result is that something was done; else nothing is recorded. */
    readonly done?: (result: A) => boolean
  },
): Effect.Effect<A, E | DependencyUnavailable, R | AuditTrail | CurrentCaller> =>
  Effect.gen(function* () {
    const caller = yield* CurrentCaller
    const answer = yield* FiberRef.get(currentAnswer)
    const actor =
      caller._tag === "AdminCaller"
        ? { kind: "administrator", id: "administrator" }
        : { kind: caller.principal.kind, id: caller.principal.id }
    const entryOf = (result: A) => ({
      action: what.action,
      project: what.project,
      subject: what.subject?.(result),
      actor,
      requestId: String(answer?.getHeader("x-request-id") ?? ""),
      details: what.details ?? {},
    })
    const isDone = what.done ?? (() => true)
    const result = yield* (yield* AuditTrail).recorded(act, (made) => (isDone(made) ? entryOf(made) : undefined))
    if (isDone(result)) {
      const { action, details, project, subject } = entryOf(result)
      yield* Effect.logInfo(`Audit: ${action}.`).pipe(
        Effect.annotateLogs({ project, ...(subject !== undefined && { subject }), actor: `${actor.kind}:${actor.id}` }),
        Effect.annotateLogs(details),
      )
    }
    return result
  })
