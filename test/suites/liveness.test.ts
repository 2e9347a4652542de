import { describe, expect, it } from "vitest"
import { Liveness } from "../../layers/clients/Liveness.ts"
import { sleep } from "../support/processes.ts"

/** A server that lives or not, as the test says, and counts its pings. */
const server = () => {
  const state = { alive: true, pings: 0, given: 0 }
  const liveness = new Liveness("The server", async (signal) => {
    state.pings++
    signal.addEventListener("abort", () => state.given++)
    while (!state.alive && !signal.aborted) await sleep(10)
    if (!state.alive) throw new Error("gone")
  })
  return { state, liveness }
}

describe("Liveness", () => {
  it("who waits for a server that lives waits on, and all who wait ask once", async () => {
    const { liveness, state } = server()
    const work = Promise.all(
      Array.from({ length: 50 }, () =>
        liveness.guard(
          sleep(2500).then(() => "done"),
          () => expect.fail("given up"),
        ),
      ),
    )
    expect(new Set(await work)).toEqual(new Set(["done"]))
    expect(state.pings).toBe(2)
    expect(state.given).toBe(2)
    liveness.close()
  })

  it("who waits for one that does not is told within two seconds, and again at once until it is back", async () => {
    const { liveness, state } = server()
    state.alive = false
    const began = performance.now()
    const work = Promise.withResolvers<never>()
    await expect(liveness.guard(work.promise, (cause) => work.reject(cause))).rejects.toThrow(
      "The server does not answer",
    )
    expect(performance.now() - began).toBeGreaterThan(1500)
    expect(performance.now() - began).toBeLessThan(2000)
    expect(liveness.away).toBe(true)
    state.alive = true
    await sleep(800)
    expect(liveness.away).toBe(false)
    const { pings } = state
    await sleep(600)
    expect(state.pings).toBe(pings)
    liveness.close()
  })

  it("a pause of this process is not taken for one of the server", async () => {
    const { liveness, state } = server()
    // Several messages go to and fro, as they do on a connection that is made for the question.
    state.alive = false
    const alive = liveness.ask()
    setTimeout(() => {
      const until = performance.now() + 1000
      while (performance.now() < until);
      setTimeout(() => (state.alive = true), 50)
    }, 10)
    expect(await alive).toBe(true)
    expect(liveness.away).toBe(false)
    liveness.close()
  })

  it("work that is done in time asks nothing", async () => {
    const { liveness, state } = server()
    expect(await liveness.guard(Promise.resolve(1), () => expect.fail("given up"))).toBe(1)
    await expect(liveness.guard(Promise.reject(new Error("no")), () => expect.fail("given up"))).rejects.toThrow("no")
    await sleep(1300)
    expect(state.pings).toBe(0)
    liveness.close()
  })
})
