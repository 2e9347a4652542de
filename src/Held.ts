import { Effect, type Exit, Scope } from "effect"

/**
 * `Effect.acquireRelease` for the way of a request: the release runs with the fiber's state as it is when the scope closes
 * and not as it was at the acquisition. Telling the two apart and back costs some 20 µs a resource, and within a request
 * they are alike.
 */
export const held = <A, E, R>(
  acquire: Effect.Effect<A, E, R>,
  release: (resource: A, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>,
): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.uninterruptible(
    Effect.flatMap(acquire, (resource) =>
      Effect.flatMap(Effect.scope, (scope) =>
        Effect.as(
          Scope.addFinalizerExit(scope, (exit) => release(resource, exit)),
          resource,
        ),
      ),
    ),
  )
