import type * as HttpApp from "@effect/platform/HttpApp"
import { Context, Effect, type Fiber } from "effect"
import { Settings } from "../Config.ts"
import type { Connections } from "./Connections.ts"
import { Readiness } from "./Readiness.ts"

/** How long requests whose connections are gone may take to clean up after themselves, in milliseconds. */
const cleanupMillis = 3000

/** How the node stops serving without losing a request that reached it. */
export class Drain extends Context.Tag("src/http/Drain")<
  Drain,
  {
    /**
     * Readiness turns 503 and event streams end at once. The listener goes on serving for `DRAIN_DELAY_SECONDS`, so that
     * the balancer can notice, then closes; what is in flight then has `DRAIN_SECONDS`. Returns when no request runs.
     */
    readonly run: Effect.Effect<void>
    /** Makes `run` wait for the handler's cleaning up, which may outlive its connection. */
    readonly counted: <E, R>(app: HttpApp.Default<E, R>) => HttpApp.Default<E, R>
    /** The same for a fiber that handles a request. */
    readonly count: (fiber: Fiber.RuntimeFiber<unknown, unknown>) => void
  }
>() {}

/** `listeners`: the connections of each listener of the node. */
export const make = Effect.fnUntraced(function* (listeners: ReadonlyArray<Connections>) {
  const { drainDelaySeconds, drainSeconds } = yield* Settings
  const readiness = yield* Readiness
  let running = 0
  const leave = () => {
    running--
  }

  const run = Effect.gen(function* () {
    yield* readiness.drain
    yield* Effect.logInfo(
      `Stopping: serving for ${drainDelaySeconds} s more, then ${running} requests have up to ${drainSeconds} s.`,
    )
    for (const { sayLast } of listeners) sayLast()
    yield* Effect.sleep(drainDelaySeconds * 1000)
    yield* Effect.promise(() => Promise.all(listeners.map(({ close }) => close(drainSeconds * 1000))))
    // A finalizer is not interruptible, and a timeout waits for what it cannot interrupt.
    yield* Effect.sleep(20).pipe(
      Effect.repeat({ while: () => running > 0 }),
      Effect.interruptible,
      Effect.timeoutOption(cleanupMillis),
    )
  })
  return Drain.of({
    run,
    counted: (app) =>
      Effect.suspend(() => {
        running++
        return Effect.ensuring(app, Effect.sync(leave))
      }),
    count: (fiber) => {
      running++
      fiber.addObserver(leave)
    },
  })
})
