import { Effect } from "effect"

/** So many refusals at once are answered at once. */
const burst = 50
/** The time between two of them after that, in milliseconds. */
const spacingMillis = 10
/** The longest that a refusal is held back, in milliseconds. */
const longestMillis = 1000

/**
 * Holds refusals of credentials back when they are many: a client that floods a node with keys that nobody knows waits for
 * its own refusals and leaves the processor to others (the generic cell rate algorithm, ITU-T I.371). A few mistakes are
 * answered at once.
 */
export const makeRefusedKeys = (now: () => number = () => performance.now()) => {
  let due = Number.NEGATIVE_INFINITY
  return Effect.suspend(() => {
    const at = now()
    due = Math.min(Math.max(due, at) + spacingMillis, at + burst * spacingMillis + longestMillis)
    const wait = due - at - burst * spacingMillis
    return wait > 0 ? Effect.sleep(wait) : Effect.void
  })
}
