import { Context, Effect, Layer } from "effect"
import { stepsWaiting } from "../telemetry/Turns.ts"
import { type Lane, type Size, TurnQueue } from "./TurnQueue.ts"

/** Fair shares of this node's database connections and processor time for all projects. */
export class Turns extends Context.Tag("src/turns/Turns")<
  Turns,
  {
    /**
     * Runs `step` when it is the project's turn, see `TurnQueue`. For what asks the database, works on many rows or takes a
     * file in; never within another turn. A caller who leaves while the step waits
     * gives its turn up, and the step does not run.
     */
    readonly run: <A, E, R>(
      project: string,
      kind: { readonly lane: Lane; readonly size: Size },
      step: Effect.Effect<A, E, R>,
    ) => Effect.Effect<A, E, R>
  }
>() {}

export const reading = { lane: "read", size: "step" } as const
export const readingPage = { lane: "read", size: "page" } as const
export const writing = { lane: "write", size: "step" } as const
/** A whole upload: what it costs this node is spread over all of it. */
export const uploading = { lane: "upload", size: "step" } as const

/** `Turns.run` of the service at hand. */
export const inTurn = <A, E, R>(
  project: string,
  kind: { readonly lane: Lane; readonly size: Size },
  step: Effect.Effect<A, E, R>,
): Effect.Effect<A, E, R | Turns> => Effect.flatMap(Turns, ({ run }) => run(project, kind, step))

export const make = (queue: TurnQueue): Context.Tag.Service<Turns> => ({
  run: (project, { lane, size }, step) =>
    Effect.uninterruptibleMask((restore) => {
      let resume: (() => void) | undefined
      const turn = queue.enter(project, lane, size, () => resume?.())
      const end = Effect.sync(() => queue.end(turn))
      const running = Effect.ensuring(restore(step), end)
      if (turn.state === "running") return running
      stepsWaiting(1)
      const admitted = Effect.async<void>((go) => {
        if (turn.state === "running") go(Effect.void)
        else resume = () => go(Effect.void)
      })
      return restore(admitted).pipe(
        Effect.onInterrupt(() => end),
        Effect.ensuring(Effect.sync(() => stepsWaiting(-1))),
        Effect.zipRight(running),
      )
    }),
})

export const layer = Layer.sync(Turns, () => make(new TurnQueue()))
