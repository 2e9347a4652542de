import { Effect, FiberRef } from "effect"

type Body = (...args: ReadonlyArray<any>) => any
type Step = (effect: unknown, ...args: ReadonlyArray<any>) => unknown

const isGenerator = (body: Body) => Object.prototype.toString.call(body) === "[object GeneratorFunction]"

/** The effect in a span of this name while traces are exported, else the effect alone. */
const inSpan = (name: string, run: () => Effect.Effect<any, any, any>): Effect.Effect<any, any, any> =>
  Effect.withFiberRuntime((fiber) =>
    fiber.getFiberRef(FiberRef.currentTracerEnabled)
      ? Effect.withSpan(run(), name, { captureStackTrace: false })
      : run(),
  )

/**
 * `Effect.fn`, but next to free while no traces are exported. `Effect.fn` makes two stack traces and a span at each call,
 * recorded or not; a publish has more than a dozen such calls.
 */
export const traced = (name: string): Effect.fn.Gen & Effect.fn.NonGen =>
  ((body: Body, ...steps: ReadonlyArray<Step>) => {
    const plain: Body = isGenerator(body)
      ? (Effect.fnUntraced as Body)(body, ...steps)
      : (...args) => steps.reduce((effect, step) => step(effect, ...args), body(...args))
    return (...args: ReadonlyArray<any>) => inSpan(name, () => plain(...args))
  }) as Effect.fn.Gen & Effect.fn.NonGen

/** `Effect.withSpan`, likewise. */
export const spanned =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    inSpan(name, () => effect)
