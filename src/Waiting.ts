import { Effect, ExecutionStrategy, Exit, Layer, Schedule, Scope } from "effect"
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

/**
 * The layer, built again and again while what it stands on is away; a line tells of each attempt. Meanwhile the node
 * answers `/healthz`, and `/readyz` with 503. Any other fault ends the start.
 */
export const awaited = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const attempt = Effect.gen(function* () {
        const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
        return yield* Effect.onExit(Layer.buildWithScope(layer, own), (exit) =>
          Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void,
        )
      })
      let missing = ""
      const waits = (error: unknown) => {
        if (!isPassing(error)) return Effect.succeed(false)
        missing = missingOf(error)
        return Effect.annotateLogs(Effect.logWarning(`Waiting for ${missing}, which cannot be reached.`, error), {
          dependency: missing,
        }).pipe(Effect.as(true))
      }
      return yield* Effect.catchAll(attempt, (error) =>
        Effect.if(waits(error), {
          onFalse: () => Effect.fail(error),
          onTrue: () =>
            Effect.scoped(
              Effect.zipRight(
                serveWaiting(() => missing),
                Effect.delay(attempt, pause).pipe(Effect.retry({ schedule: Schedule.forever, while: waits })),
              ),
            ),
        }),
      )
    }),
  )
