import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Scope, TestClock } from "effect"
import { makeSlots, type Slots, type SlotsTaken } from "../../src/http/Slots.ts"

/** Takes slots until one is refused; how many it got, and by what it was refused. */
const fill = (slots: Slots, project: string) =>
  Effect.gen(function* () {
    const given: Array<() => void> = []
    while (true) {
      const taken = yield* Effect.either(slots.take(project))
      if (taken._tag === "Left") return { given, count: given.length, by: taken.left.by }
      given.push(taken.right)
    }
  })

const refusal = (taken: Effect.Effect<unknown, SlotsTaken>) =>
  Effect.map(Effect.either(taken), (result) => (result._tag === "Left" ? result.left.by : undefined))

describe("slots with a share for each project", () => {
  it.effect("a project that is alone has them all", () =>
    Effect.gen(function* () {
      for (const limit of [1, 2, 15, 16, 24, 31, 256]) {
        const filled = yield* fill(makeSlots(limit), "a")
        expect([filled.count, filled.by]).toEqual([limit, "node"])
      }
    }),
  )

  it.effect("where one project took all, the next ones still find some", () =>
    Effect.gen(function* () {
      const slots = makeSlots(256)
      const found: Array<number> = []
      for (const project of ["a", "b", "c", "d", "e", "f", "g"]) found.push((yield* fill(slots, project)).count)
      expect(found).toEqual([256, 8, 4, 2, 1, 1, 0])
    }),
  )

  it.effect("a project has half while another holds a slot", () =>
    Effect.gen(function* () {
      const slots = makeSlots(64)
      const giveBack = yield* slots.take("b")
      const filled = yield* fill(slots, "a")
      expect(filled).toMatchObject({ count: 32, by: "project" })
      giveBack()
      yield* slots.take("a")
    }),
  )

  it.effect("a project that holds more than half takes no more until it holds less", () =>
    Effect.gen(function* () {
      const slots = makeSlots(8)
      const { given } = yield* fill(slots, "a")
      expect(given.length).toBe(8)
      expect(yield* refusal(slots.take("b"))).toBe("node")
      given.pop()?.()
      expect(yield* refusal(slots.take("a"))).toBe("project")
      yield* slots.take("b")
      while (given.length > 4) given.pop()?.()
      expect(yield* refusal(slots.take("a"))).toBe("project")
      given.pop()?.()
      yield* slots.take("a")
    }),
  )

  it.effect("a project that was refused counts for 30 seconds", () =>
    Effect.gen(function* () {
      const slots = makeSlots(4)
      const { given } = yield* fill(slots, "a")
      expect(yield* refusal(slots.take("b"))).toBe("node")
      given.pop()?.()
      expect(yield* refusal(slots.take("a"))).toBe("project")
      yield* TestClock.adjust("31 seconds")
      yield* slots.take("a")
    }),
  )

  it.effect("gives back with the scope, and once", () =>
    Effect.gen(function* () {
      const slots = makeSlots(1)
      const scope = yield* Scope.make()
      yield* Scope.extend(slots.enter("a"), scope)
      expect(yield* refusal(slots.take("a"))).toBe("node")
      yield* Scope.close(scope, Exit.void)
      const giveBack = yield* slots.take("a")
      giveBack()
      giveBack()
      expect(yield* fill(slots, "a")).toMatchObject({ count: 1 })
    }),
  )

  it.effect("counts sizes, and leaves nothing taken by a refusal", () =>
    Effect.gen(function* () {
      const slots = makeSlots(100)
      const giveBack = yield* slots.take("a", 60)
      expect(yield* refusal(slots.take("b", 51))).toBe("node")
      yield* slots.take("b", 30)
      expect(yield* refusal(slots.take("a", 1))).toBe("project")
      giveBack()
      yield* slots.take("a", 50)
    }),
  )
})
