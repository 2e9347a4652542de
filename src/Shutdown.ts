import { constants } from "node:os"
import { Effect, Layer, Runtime } from "effect"
import { Settings } from "./Config.ts"
import { stopOptimizer } from "./Optimizer.ts"

/** What closing takes beyond the drain, in milliseconds: requests cut off clean up, actors move, pools end. */
const marginMillis = 6000

/** One Ctrl-C comes twice to a process that npm started: from the terminal, and from npm. Milliseconds. */
const echoMillis = 300

/**
 * Bounds the stop that the first SIGTERM or SIGINT begins. A second one ends the process at once, with 128 plus its
 * number; so does the time the drain may take, with 0: what was acknowledged is durable and the rest is swept up, so
 * that nothing is lost either way. Without this a container's process 1 would not hear a second signal at all.
 */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const { drainDelaySeconds, drainSeconds } = yield* Settings
    const log = Runtime.runSync(yield* Effect.runtime())
    let asked: number | undefined
    const onSignal = (signal: "SIGTERM" | "SIGINT") => {
      const now = performance.now()
      if (asked !== undefined && now - asked > echoMillis) process.exit(128 + constants.signals[signal])
      if (asked !== undefined) return
      asked = now
      // Else exiting may wait for ever, the timer below included. What is compiled now is done by then, unless the drain
      // takes no time at all.
      stopOptimizer()
      const late = () => {
        log(Effect.logWarning("Stopped, out of time: something was still open."))
        process.exit(0)
      }
      setTimeout(late, (drainDelaySeconds + drainSeconds) * 1000 + marginMillis).unref()
    }
    process.on("SIGTERM", onSignal)
    process.on("SIGINT", onSignal)
  }),
)
