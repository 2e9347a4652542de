import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { watchPace } from "../../src/http/upload/Pace.ts"
import { head, raw, withReceiver } from "./receiving.ts"

const fake = () => vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] })
beforeEach(() => void fake())
afterEach(() => void vi.useRealTimers())

/** A pace of `bytes` each second for `seconds`, all of it waited for; says after how many seconds it was too slow. */
const endOf = (seconds: number, bytes: (second: number) => number): number | undefined => {
  let now = 0
  let end: number | undefined
  const pace = watchPace(() => {
    end = now
  })
  pace.waiting()
  for (now = 1; now <= seconds && end === undefined; now++) {
    pace.came(bytes(now))
    vi.advanceTimersByTime(1000)
  }
  pace.stop()
  return end
}

describe("the pace of a sender", () => {
  it("below 1 KiB a second over two minutes is too slow", () => {
    const end = endOf(600, () => 1000)
    expect(end).toBeGreaterThanOrEqual(120)
    expect(end).toBeLessThanOrEqual(130)
  })
  it("of a byte now and then is too slow after two minutes, not before", () => {
    expect(endOf(119, (second) => (second % 3 === 0 ? 1 : 0))).toBeUndefined()
    expect(endOf(600, (second) => (second % 3 === 0 ? 1 : 0))).toBeLessThanOrEqual(130)
  })
  it("above it is good enough, in bursts too", () => {
    expect(endOf(1000, () => 1025)).toBeUndefined()
    expect(endOf(1000, (second) => (second % 50 === 1 ? 70_000 : 0))).toBeUndefined()
  })
  it("is judged over any two minutes, however much came before", () => {
    const end = endOf(2000, (second) => (second <= 300 ? 100_000 : 10))
    expect(end).toBeGreaterThanOrEqual(415)
    expect(end).toBeLessThanOrEqual(440)
  })
  it("does not count the time in which the node was busy", () => {
    let slow = false
    const pace = watchPace(() => {
      slow = true
    })
    pace.waiting()
    // A second of waiting for each minute that the node was busy.
    for (let turn = 0; turn < 110; turn++) {
      vi.advanceTimersByTime(1000)
      pace.came(1)
      pace.busy()
      vi.advanceTimersByTime(60_000)
      pace.waiting()
    }
    expect(slow).toBe(false)
    vi.advanceTimersByTime(30_000)
    expect(slow).toBe(true)
    pace.stop()
  })
  it("is not judged by the time in which the process stood still", () => {
    let slow = false
    const pace = watchPace(() => {
      slow = true
    })
    pace.waiting()
    pace.came(1)
    const now = performance.now()
    vi.spyOn(performance, "now").mockReturnValue(now + 3_600_000)
    vi.advanceTimersByTime(10_000)
    expect(slow).toBe(false)
    pace.stop()
    vi.restoreAllMocks()
  })
})

describe("the receiver", () => {
  it("ends an upload that is too slow, though it never stalls", () =>
    withReceiver(
      async (port, outcomes) => {
        const answer = await raw(port, (socket) => {
          socket.write(`${head(100_000)}--b\r\nContent-Disp`)
          const drip = setTimeout(() => {
            socket.write("x")
            vi.advanceTimersByTime(135_000)
          }, 300)
          socket.once("close", () => clearTimeout(drip))
        })
        expect(answer).toMatch(/^HTTP\/1.1 400/)
        expect(outcomes[0]?.error?._tag).toBe("UploadTooSlow")
      },
      { idleSeconds: 5 },
    ))

  it("does not end one whose bytes wait for the node", () =>
    withReceiver(
      async (port, outcomes) => {
        const file = '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        const body = `${file}${"x".repeat(200_000)}\r\n--b--\r\n`
        const answer = await raw(port, (socket) => {
          socket.write(head(body.length))
          socket.write(body)
          setTimeout(() => vi.advanceTimersByTime(600_000), 300)
        })
        expect(answer).toMatch(/^HTTP\/1.1 200/)
        expect(outcomes[0]?.error).toBeUndefined()
      },
      { slowSinkMillis: 600 },
    ))
})
