import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { afterEach, beforeEach, vi } from "vitest"
import { type Lane, type Size, TurnQueue } from "../../src/turns/TurnQueue.ts"
import { make, reading, readingPage } from "../../src/turns/Turns.ts"

/** A queue under a clock of the test's, whose admitted steps are written down. */
const scene = () => {
  const clock = { now: 0 }
  const queue = new TurnQueue(() => clock.now)
  const begun: Array<string> = []
  const enter = (name: string, size: Size = "step", lane: Lane = "read") => {
    const project = name.split(":")[0] ?? name
    const turn = queue.enter(project, lane, size, () => void begun.push(name))
    if (turn.state === "running") begun.push(name)
    return turn
  }
  const many = (project: string, count: number, size: Size = "step") =>
    Array.from({ length: count }, (_, index) => enter(`${project}:${index}`, size))
  return { begun, clock, enter, many, queue }
}

describe("the queue of turns", () => {
  it("lets a project that is alone fill the node, by size", () => {
    const { begun, many, queue } = scene()
    many("a", 100)
    expect([begun.length, queue.waiting]).toEqual([64, 36])
    const pages = scene()
    pages.many("a", 100, "page")
    expect(pages.begun.length).toBe(8)
  })

  it("keeps a project to its share while another is active, and for ten seconds after", () => {
    const { begun, clock, enter, many, queue } = scene()
    queue.end(enter("b"))
    const turns = many("a", 20)
    expect(begun.slice(1)).toHaveLength(8)
    for (const turn of turns) queue.end(turn)
    begun.length = 0
    clock.now = 11_000
    many("a", 20)
    expect(begun).toHaveLength(20)
  })

  it("keeps its uploads to half of that, which hold up neither what it reads nor its heartbeats", () => {
    const { begun, enter } = scene()
    enter("b")
    for (let n = 0; n < 20; n++) enter(`a:${n}`, "step", "upload")
    expect(begun.slice(1)).toHaveLength(4)
    enter("a:read")
    enter("a:heartbeat", "step", "write")
    expect(begun.slice(5)).toEqual(["a:read", "a:heartbeat"])
  })

  it("serves another project at once, whatever waits of the first", () => {
    const { begun, enter, many } = scene()
    many("a", 64 + 64)
    enter("b:0", "page")
    expect(begun.indexOf("b:0")).toBe(64)
  })

  it("serves first the one that was served least, once all is taken", () => {
    const { begun, enter, many, queue } = scene()
    const turns = many("a", 64)
    many("a", 20)
    enter("b:0")
    enter("b:1")
    begun.length = 0
    // Both the first and the second place that come free go by fairness: b was served one step, a sixty-four.
    queue.end(turns[0]!)
    expect(begun).toEqual([])
    queue.end(turns[1]!)
    expect(begun).toEqual(["b:1"])
  })

  it("shares what comes free among projects by size, each in its own order", () => {
    const { begun, enter, many, queue } = scene()
    // Nine projects with a share each are more than the node has.
    const running = Array.from({ length: 8 }, (_, p) => many(`p${p}`, 8)).flat()
    const first = running.slice(0, 2)
    begun.length = 0
    const waiting = [enter("p0:8"), enter("p0:9"), enter("p1:8"), enter("p1:9")]
    expect(queue.waiting).toBe(4)
    queue.end(first[0]!)
    queue.end(first[1]!)
    // p1 has its full share, so that only its own ends let its steps in.
    expect(begun).toEqual(["p0:8", "p0:9"])
    queue.end(running[8]!)
    expect(begun).toEqual(["p0:8", "p0:9", "p1:8"])
    for (const turn of [...running, ...waiting]) queue.end(turn)
    expect(queue.waiting).toBe(0)
  })

  it("does not let a project's steps that write wait behind those that read", () => {
    const { begun, enter, many } = scene()
    enter("b")
    many("a", 20, "page")
    enter("a:write", "step", "write")
    expect(begun).toContain("a:write")
  })

  it("forgets who leaves while he waits", () => {
    const { begun, enter, many, queue } = scene()
    enter("b")
    const turns = many("a", 8)
    const [gone, stays] = [enter("a:gone"), enter("a:stays")]
    queue.end(gone)
    queue.end(turns[0]!)
    expect(begun).not.toContain("a:gone")
    expect(stays.state).toBe("running")
  })

  describe("with a timer", () => {
    beforeEach(() => void vi.useFakeTimers())
    afterEach(() => void vi.useRealTimers())

    it("leaves others as much time as a project's page took, before its next one begins", () => {
      const { begun, clock, enter, queue } = scene()
      queue.end(enter("b"))
      const [first] = [enter("a:0", "page"), enter("a:1", "page")]
      clock.now = 40
      queue.end(first)
      enter("b:1", "page")
      expect(begun).toEqual(["b", "a:0", "b:1"])
      clock.now = 79
      vi.advanceTimersByTime(39)
      expect(begun).not.toContain("a:1")
      clock.now = 80
      vi.advanceTimersByTime(1)
      expect(begun).toEqual(["b", "a:0", "b:1", "a:1"])
    })

    it("lets the pages of a project that is alone follow each other at once", () => {
      const { begun, clock, many, queue } = scene()
      const turns = many("a", 9, "page")
      clock.now = 40
      queue.end(turns[0]!)
      expect(begun).toHaveLength(9)
    })

    it("counts a step no more that runs for long: it waits for something else", () => {
      const { begun, clock, enter, many, queue } = scene()
      enter("b")
      const stuck = many("a", 8)
      enter("a:next")
      expect(begun).not.toContain("a:next")
      clock.now = 130
      vi.advanceTimersByTime(130)
      expect(begun).toContain("a:next")
      for (const turn of stuck) queue.end(turn)
      expect(vi.getTimerCount()).toBe(0)
    })
  })
})

describe("steps in turn", () => {
  const gated = Effect.gen(function* () {
    const queue = new TurnQueue(() => 0)
    const turns = make(queue)
    const order: Array<string> = []
    const gates = new Map<string, Deferred.Deferred<void>>()
    const step = (name: string, kind: Parameters<typeof turns.run>[1] = reading) =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        gates.set(name, gate)
        return yield* Effect.forkDaemon(
          turns.run(
            name.split(":")[0] ?? name,
            kind,
            Effect.zipRight(
              Effect.sync(() => void order.push(name)),
              Deferred.await(gate),
            ),
          ),
        ).pipe(Effect.zipLeft(Effect.yieldNow()))
      })
    const release = (name: string) =>
      Effect.zipRight(Deferred.succeed(gates.get(name)!, undefined), Effect.yieldNow()).pipe(
        Effect.zipRight(Effect.sleep(5)),
      )
    return { order, queue, release, step }
  })

  it.live("a flooding project with 64 waiting: another's step is the next one that runs", () =>
    Effect.gen(function* () {
      const { order, release, step } = yield* gated
      for (let n = 0; n < 8 + 64; n++) yield* step(`a:${n}`, readingPage)
      expect(order).toHaveLength(8)
      yield* step("b:0", readingPage)
      expect(order.at(-1)).toBe("b:0")
      // b is served again before any but one of the 64.
      yield* step("b:1", readingPage)
      yield* release("a:0")
      yield* release("b:0")
      expect(order.slice(8)).toContain("b:1")
      expect(order.length).toBeLessThanOrEqual(11)
    }),
  )

  it.live("a caller who leaves gives up the turn he waits for, and the one he has", () =>
    Effect.gen(function* () {
      const { order, queue, release, step } = yield* gated
      const running: Array<Fiber.RuntimeFiber<void>> = []
      for (let n = 0; n < 64; n++) running.push(yield* step(`a:${n}`))
      const waiting = yield* step("a:waiting")
      const next = yield* step("a:next")
      expect(queue.waiting).toBe(2)
      yield* Fiber.interrupt(waiting)
      expect(queue.waiting).toBe(1)
      yield* Fiber.interrupt(running[0]!)
      yield* Effect.sleep(5)
      expect(order).not.toContain("a:waiting")
      expect(order).toContain("a:next")
      yield* release("a:next")
      yield* Fiber.join(next)
      expect(queue.waiting).toBe(0)
    }),
  )

  it.live("leaving in the very moment of being admitted loses no turn", () =>
    Effect.gen(function* () {
      const queue = new TurnQueue(() => 0)
      const turns = make(queue)
      const gate = yield* Deferred.make<void>()
      yield* Effect.fork(turns.run("b", reading, Effect.void))
      const first = yield* Effect.forkDaemon(turns.run("a", readingPage, Deferred.await(gate)))
      yield* Effect.sleep(5)
      const second = yield* Effect.forkDaemon(turns.run("a", readingPage, Effect.never))
      yield* Effect.sleep(5)
      expect(queue.waiting).toBe(1)
      // The end of the first admits the second, whose fiber is interrupted before it goes on.
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.interrupt(second)
      yield* Fiber.join(first)
      expect(yield* turns.run("a", readingPage, Effect.succeed("free")).pipe(Effect.timeout("1 second"))).toBe("free")
    }),
  )

  it.live("a step that fails or dies gives its turn back", () =>
    Effect.gen(function* () {
      const turns = make(new TurnQueue(() => 0))
      yield* turns.run("b", reading, Effect.void)
      for (let n = 0; n < 20; n++) {
        yield* Effect.exit(turns.run("a", readingPage, Effect.fail("no")))
        yield* Effect.exit(turns.run("a", readingPage, Effect.die("oh")))
      }
      expect(yield* turns.run("a", readingPage, Effect.succeed(1)).pipe(Effect.timeout("1 second"))).toBe(1)
    }),
  )
})
