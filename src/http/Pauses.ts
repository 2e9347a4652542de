/** How often it is looked at, and from which gap between two looks on the process stood still. Milliseconds. */
const everyMillis = 1000
const longMillis = 3000

/**
 * Notices when this process stood still: frozen, or with an event loop that was blocked. What is measured by time alone
 * then looks late, although it lay there unread.
 */
export const watchPauses = () => {
  let looked = performance.now()
  let pausedUntil = Number.NEGATIVE_INFINITY
  const look = () => {
    const now = performance.now()
    if (now - looked > longMillis) pausedUntil = now
    looked = now
  }
  const timer = setInterval(look, everyMillis).unref()
  return {
    /** Whether a pause ended less than so many milliseconds ago. */
    endedWithin: (millis: number): boolean => {
      look()
      return performance.now() - pausedUntil < millis
    },
    stop: (): void => clearInterval(timer),
  }
}
