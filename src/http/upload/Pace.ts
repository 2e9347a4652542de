import { UploadTooSlow } from "../../publish/Refusals.ts"

/** The least that a client must send while the node waits for it, over any two minutes of such waiting. */
const leastBytesPerSecond = 1024
const windowMillis = 120_000
/** How often the pace is looked at. */
const stepMillis = 10_000

/**
 * Watches how fast a client sends while the node waits for it. Time in which the node itself is busy, with the store or
 * with the quota, does not count. `onSlow` is called with the refusal, once.
 */
export const watchPace = (onSlow: (refusal: UploadTooSlow) => void) => {
  /** The latest steps, oldest first: what came in each, and how long the client was waited for. */
  const steps: Array<{ readonly bytes: number; readonly millis: number }> = []
  let bytes = 0
  let millis = 0
  let since: number | undefined

  /** A process that was stopped, or whose event loop was blocked, did not wait for all of that time. */
  const account = () => {
    if (since === undefined) return
    const now = performance.now()
    millis += Math.min(now - since, 2 * stepMillis)
    since = now
  }

  const look = () => {
    account()
    if (millis < stepMillis) return
    steps.push({ bytes, millis })
    bytes = 0
    millis = 0
    const total = { bytes: 0, millis: 0 }
    let from = steps.length
    while (from > 0 && total.millis < windowMillis) {
      const step = steps[--from]
      total.bytes += step?.bytes ?? 0
      total.millis += step?.millis ?? 0
    }
    if (total.millis < windowMillis) return
    steps.splice(0, from)
    if (total.bytes * 1000 >= leastBytesPerSecond * total.millis) return
    stop()
    onSlow(new UploadTooSlow({ bytesPerSecond: leastBytesPerSecond, seconds: windowMillis / 1000 }))
  }
  const timer = setInterval(look, stepMillis)
  const stop = () => clearInterval(timer)

  return {
    /** So many bytes came. */
    came: (count: number): void => {
      bytes += count
    },
    /** From now on the node waits for the client. */
    waiting: (): void => {
      since = performance.now()
    },
    /** From now on the node is busy itself. */
    busy: (): void => {
      account()
      since = undefined
    },
    stop,
  }
}
