import { expect, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { callerOf, freshProject, live, publish, refusal, type SqlLayer, type SuiteOptions } from "./fixtures.ts"

const freshKeys = (count: number) => Array.from({ length: count }, () => `suite/${crypto.randomUUID()}`)
const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** The contract of services/StoreGuard, a test a sentence. One database a suite at a time: it has one store. */
export const storeGuardSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`StoreGuard: ${name}`, (it) => {
    it.effect("the identity is there from the first, and a placing that fails leaves it unplaced", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const { id, placed } = yield* guard.identity
        expect([id.length > 10, placed]).toEqual([true, false])
        expect(yield* Effect.flip(guard.placeOnce(() => Effect.fail("no store")))).toBe("no store")
        expect(yield* guard.identity).toEqual({ id, placed: false })
      }),
    )
    it.effect("it is placed once: whoever comes second waits for the first, and places nothing", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const { id } = yield* guard.identity
        const inside = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        const first = yield* Effect.fork(
          guard.placeOnce((own) =>
            Deferred.succeed(inside, undefined).pipe(Effect.zipRight(Deferred.await(go)), Effect.as(own)),
          ),
        )
        yield* Deferred.await(inside)
        const second = yield* Effect.fork(guard.placeOnce(() => Effect.dieMessage("placed twice")))
        if (options.concurrent === true) yield* Effect.sleep("100 millis")
        yield* Deferred.succeed(go, undefined)
        expect(yield* Fiber.join(first)).toBe(id)
        expect(yield* Fiber.join(second)).toBeUndefined()
        expect(yield* guard.identity).toEqual({ id, placed: true })
      }),
    )

    it.effect("a mark is made when something was written since the last one, and known from then on", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const caller = yield* newCaller
        yield* publish(caller)
        const first = yield* guard.mark(undefined)
        if (first === undefined) return expect.fail("no mark was made")
        expect(first.sequence).toBe(yield* guard.sequence)
        expect(yield* guard.mark(first.id)).toBeUndefined()
        yield* publish(caller)
        const second = yield* guard.mark(first.id)
        if (second === undefined) return expect.fail("no second mark was made")
        yield* guard.markWritten(second.id)
        expect([yield* guard.knowsMark(first.id), yield* guard.knowsMark(second.id)]).toEqual([true, true])
        expect(yield* guard.knowsMark(crypto.randomUUID())).toBe(false)
        expect(yield* guard.mark("a mark of another database")).toBeDefined()
      }),
    )

    it.effect("removals are held for the first reason given, until they are released", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        expect(yield* guard.hold).toBeUndefined()
        expect(yield* guard.holdRemovals("the first")).toBe(true)
        expect(yield* guard.holdRemovals("the second")).toBe(false)
        expect(yield* guard.hold).toMatchObject({ reason: "the first" })
        yield* guard.release
        expect(yield* guard.hold).toBeUndefined()
      }),
    )

    it.effect("candidates are due after the time between two looks, each in its turn, until they are settled", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const keys = freshKeys(3)
        const due = (confirmSeconds: number, limit = 10) => guard.dueCandidates({ confirmSeconds, limit })
        expect(yield* guard.suspect(keys.slice(0, 2))).toBe(2)
        expect(yield* due(1)).toEqual([])
        yield* Effect.sleep("1200 millis")
        expect(yield* guard.suspect(keys)).toBe(1)
        expect([...(yield* due(1))].sort()).toEqual(keys.slice(0, 2).sort())
        const [turn] = yield* due(1, 1)
        const [next] = yield* due(1, 1)
        expect(next).not.toBe(turn)
        expect(yield* guard.settle(keys.slice(0, 1))).toBe(1)
        expect(yield* guard.settle(keys.slice(0, 2))).toBe(1)
        expect(yield* due(1)).toEqual([])
        expect(yield* due(0)).toEqual(keys.slice(2))
        yield* guard.settle(keys)
      }),
    )
    it.effect("none is due while removals are held, and a release asks for two new looks", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const keys = freshKeys(1)
        const due = guard.dueCandidates({ confirmSeconds: 0, limit: 10 })
        yield* guard.suspect(keys)
        yield* guard.holdRemovals("a doubt")
        expect(yield* due).toEqual([])
        yield* guard.release
        expect(yield* due).toEqual([])
        yield* guard.suspect(keys)
        expect(yield* due).toEqual(keys)
        yield* guard.settle(keys)
      }),
    )

    it.effect("a listing goes on where the last one stopped, and whoever was overtaken records nothing", () =>
      Effect.gen(function* () {
        const guard = yield* StoreGuard
        const first = yield* guard.takeListing
        yield* guard.advanceListing(first.epoch, "k/1")
        const second = yield* guard.takeListing
        expect(second.epoch).toBeGreaterThan(first.epoch)
        expect(second.after).toBe("k/1")
        expect(yield* refusal(guard.advanceListing(first.epoch, "k/2"))).toBe("StaleListing")
        yield* guard.advanceListing(second.epoch, undefined)
        expect((yield* guard.takeListing).after).toBeUndefined()
      }),
    )
  })
