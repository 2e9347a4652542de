import { Cause, Effect, ExecutionStrategy, Exit, Layer, Schedule, Scope } from "effect"
import { DependencyUnavailable } from "../services/Unavailable.ts"
import { serveWaiting } from "./http/WaitingServer.ts"

/** How long after a failure everything is tried again. */
const pause = "3 seconds"

/**
 * Faults of which a server, or the way to it, is cured by itself: Node's codes for a peer that is not there, the classes
 * of SQLSTATE for a lost connection (08), too many of them (53), and a server that starts or stops (57P), and the names
 * of our own clients' errors. Whatever else a server answers, a wrong password for one, is an operator's to mend.
 */
const passingCode =
  /^(ECONN\w+|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOST\w+|ENET\w+|ESTALE|EIO|08\w{3}|53\w{3}|57P\w{2})$/
const passingName = /^(NoAnswer|Standby|Timeout\w*)$/

const isPassing = (error: unknown): boolean => {
  if (typeof error !== "object" || error === null) return false
  const { $metadata, cause, code, errors, name } = error as Record<string, unknown>
  if (typeof code === "string" && passingCode.test(code)) return true
  if (typeof name === "string" && passingName.test(name)) return true
  const status = ($metadata as { readonly httpStatusCode?: number } | undefined)?.httpStatusCode
  if (status !== undefined && status >= 500) return true
  return isPassing(cause) || (Array.isArray(errors) && errors.some(isPassing))
}

/** Which dependency a start failed for. */
const missingOf = (error: unknown) => (error instanceof DependencyUnavailable ? error.dependency : "postgres")

/** Whether the fault is one to wait for; a line tells of it then. */
const waitsFor = (error: unknown) => {
  if (!isPassing(error)) return Effect.succeed(false)
  const dependency = missingOf(error)
  return Effect.logWarning(`Waiting for ${dependency}, which cannot be reached.`, error).pipe(
    Effect.annotateLogs({ dependency }),
    Effect.as(true),
  )
}

/** One try to build the layer for as long as the scope is open; what a failed one has taken is given back. */
const attempt = <A, E, R>(layer: Layer.Layer<A, E, R>, scope: Scope.Scope) =>
  Effect.gen(function* () {
    const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
    return yield* Effect.onExit(Layer.buildWithScope(layer, own), (exit) =>
      Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void,
    )
  })

/**
 * The layer, built again and again while what it stands on is away; a line tells of each attempt. Meanwhile the node
 * answers `/healthz`, and `/readyz` with 503. Any other fault ends the start.
 */
export const awaited = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      let missing = ""
      const waits = (error: unknown) => {
        missing = missingOf(error)
        return waitsFor(error)
      }
      return yield* Effect.catchAll(attempt(layer, scope), (error) =>
        Effect.if(waits(error), {
          onFalse: () => Effect.fail(error),
          onTrue: () =>
            Effect.scoped(
              Effect.zipRight(
                serveWaiting(() => missing),
                Effect.delay(attempt(layer, scope), pause).pipe(
                  Effect.retry({ schedule: Schedule.forever, while: waits }),
                ),
              ),
            ),
        }),
      )
    }),
  )

/**
 * The same for a part of a node that serves already, and goes on serving without it: `awaited` has seen all that it
 * stands on, which may be away again by now. The actor engine reports that as a defect.
 */
export const awaitedWhileServing = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Layer.scopedContext(
    Effect.flatMap(Effect.scope, (scope) => attempt(layer, scope)).pipe(
      Effect.sandbox,
      Effect.retry({ schedule: Schedule.spaced(pause), while: (cause) => waitsFor(Cause.squash(cause)) }),
      Effect.unsandbox,
    ),
  )
