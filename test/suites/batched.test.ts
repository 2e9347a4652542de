import { expect, it, layer } from "@effect/vitest"
import { Effect, Either, Exit, Fiber } from "effect"
import { inject } from "vitest"
import { batched } from "../../layers/clients/batched.ts"
import type { ArtifactId } from "../../src/domain/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { begun, lineage, newProject, requestFor, Scene, sceneLayer, tokenHash } from "./postgresScene.ts"

const url = inject("postgresUrl")
const all = { concurrency: "unbounded" } as const

const idAt = (ids: ReadonlyArray<ArtifactId>, index: number): ArtifactId => {
  const id = ids[index]
  if (id === undefined) throw new Error("too few uploads")
  return id
}

/** A batcher whose batches are written down and end when they are let. */
const scene = (options: { readonly lanes: number; readonly most?: number; readonly oneGroup?: boolean }) =>
  Effect.gen(function* () {
    const batches: Array<ReadonlyArray<string>> = []
    const gate = yield* Effect.makeSemaphore(1000)
    yield* gate.take(1000)
    const submit = yield* batched<string, string, string>({
      most: 100,
      ...options,
      groupOf: (item) => item.slice(0, 1),
      run: (items) => {
        batches.push(items)
        return Effect.as(
          gate.take(1),
          items.map((item) => (item.endsWith("!") ? Effect.fail(item) : Effect.succeed(item.toUpperCase()))),
        )
      },
    })
    return { batches, submit, letGo: gate.release(1), settled: Effect.sleep(10) }
  })

it.live("those of one turn share a batch, those who come meanwhile the next, and each gets its own answer", () =>
  Effect.gen(function* () {
    const { batches, letGo, settled, submit } = yield* scene({ lanes: 1 })
    const first = yield* Effect.fork(Effect.forEach(["a1", "b1!"], (item) => Effect.either(submit(item)), all))
    yield* settled
    const second = yield* Effect.fork(Effect.forEach(["c1", "d1"], submit, all))
    yield* settled
    expect(batches).toEqual([["a1", "b1!"]])
    yield* letGo
    expect(yield* Fiber.join(first)).toEqual([Either.right("A1"), Either.left("b1!")])
    yield* letGo
    expect(yield* Fiber.join(second)).toEqual(["C1", "D1"])
    expect(batches[1]).toEqual(["c1", "d1"])
  }),
)

it.live("a group is in one batch at a time, and waits for no other group", () =>
  Effect.gen(function* () {
    const { batches, letGo, settled, submit } = yield* scene({ lanes: 2 })
    yield* Effect.fork(submit("a1"))
    yield* settled
    yield* Effect.fork(Effect.forEach(["a2", "b1"], submit, all))
    yield* settled
    expect(batches).toEqual([["a1"], ["b1"]])
    yield* letGo
    yield* settled
    expect(batches[2]).toEqual(["a2"])
    yield* letGo
    yield* letGo
  }),
)

it.live("one group a batch, no more than the most, and who left is not in it", () =>
  Effect.gen(function* () {
    const { batches, letGo, settled, submit } = yield* scene({ lanes: 1, most: 2, oneGroup: true })
    yield* Effect.fork(submit("a1"))
    yield* settled
    const gone = yield* Effect.fork(submit("b1"))
    const rest = yield* Effect.fork(Effect.forEach(["b2", "c1", "b3", "b4"], submit, all))
    yield* settled
    yield* Fiber.interrupt(gone)
    for (let turn = 0; turn < 4; turn++) yield* letGo
    yield* Fiber.join(rest)
    expect(batches).toEqual([["a1"], ["b2", "b3"], ["c1"], ["b4"]])
  }),
)

it.live("a batch that fails or dies answers all of its items", () =>
  Effect.gen(function* () {
    const fails = yield* batched<number, number, string>({
      lanes: 1,
      most: 9,
      run: () => Effect.fail("no"),
    })
    expect(yield* Effect.forEach([1, 2], (item) => Effect.flip(fails(item)), all)).toEqual(["no", "no"])
    const dies = yield* batched<number, number, never>({ lanes: 1, most: 9, run: () => Effect.die("oh") })
    expect(Exit.isFailure(yield* Effect.exit(dies(1)))).toBe(true)
    const short = yield* batched<number, number, never>({
      lanes: 1,
      most: 9,
      run: () => Effect.succeed([]),
    })
    expect(Exit.isFailure(yield* Effect.exit(short(1)))).toBe(true)
  }),
)

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("commits in one batch, native Postgres", (it) => {
    it.effect.each([true, false])(
      "a project held elsewhere waits and holds up no other; in one batch: %s",
      (together) =>
        Effect.gen(function* () {
          const store = yield* MetadataStore
          const held = yield* newProject()
          const others = yield* Effect.replicateEffect(newProject(), 4)
          const own = yield* begun(held)
          const ids = yield* Effect.forEach(others, begun)
          const holder = yield* (yield* Scene).open
          yield* holder.run("begin")
          yield* holder.run("select 1 from projects where handle = $1 for update", [held.project])
          const stuck = yield* Effect.fork(store.commit(requestFor(held, own)))
          // In one batch with the others, or in one of its own before them.
          if (!together) yield* Effect.sleep(50)
          const free = yield* Effect.forEach(others, (caller, index) =>
            Effect.fork(store.commit(requestFor(caller, idAt(ids, index)))),
          )
          expect(yield* Effect.forEach(free, Fiber.join).pipe(Effect.timeout("3 seconds"))).toHaveLength(4)
          expect(yield* Fiber.poll(stuck)).toMatchObject({ _tag: "None" })
          yield* holder.run("commit")
          expect((yield* Fiber.join(stuck)).usage.usedBytes).toBe(10)
        }).pipe(Effect.scoped),
    )

    it.effect("what the database cannot take of one request harms no other", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const callers = yield* Effect.replicateEffect(newProject(), 5)
        const ids = yield* Effect.forEach(callers, begun)
        const results = yield* Effect.forEach(
          callers,
          (caller, index) =>
            Effect.either(store.commit(requestFor(caller, idAt(ids, index), index === 2 ? { size: -1 } : {}))),
          all,
        )
        expect(results.map(({ _tag }) => _tag)).toEqual(["Right", "Right", "Left", "Right", "Right"])
      }),
    )

    it.effect(
      "each of a project's commits is told the books as of its own turn, and what does not fit is refused",
      () =>
        Effect.gen(function* () {
          const store = yield* MetadataStore
          const caller = yield* newProject({ quota: 45 })
          const ids = yield* Effect.replicateEffect(begun(caller), 6)
          const results = yield* Effect.forEach(ids, (id) => Effect.either(store.commit(requestFor(caller, id))), all)
          const usages = results.filter(Either.isRight).map(({ right }) => right.usage)
          expect(usages.map(({ usedBytes }) => usedBytes).toSorted((a, b) => a - b)).toEqual([10, 20, 30, 40])
          expect(new Set(usages.map(({ version }) => version)).size).toBe(4)
          for (const each of results.filter(Either.isLeft))
            expect(each.left).toMatchObject({ _tag: "QuotaExceeded", limitBytes: 45, requestedBytes: 10 })
          const rows = yield* (yield* Scene).run(
            `select (select used_bytes from projects where handle = $1) as used,
            (select count(*) from events where project = $1) as events,
            (select count(distinct created_at) from artifacts where project = $1 and state = 'ready') as times`,
            [caller.project],
          )
          expect(rows).toEqual([{ used: "40", events: "4", times: "4" }])
        }),
    )

    it.effect("of two attempts of a job the later one ends up as the highest", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject()
        const ids = yield* Effect.replicateEffect(begun(caller), 2)
        const attempts = [8, 7]
        yield* Effect.forEach(
          attempts,
          (attempt, index) =>
            store.commit(
              requestFor(caller, idAt(ids, index), {
                lineage: { ...lineage, attempt },
                lease: { _tag: "Introspected", tokenHash, askedAtMillis: Date.now() },
              }),
            ),
          all,
        )
        const rows = yield* (yield* Scene).run(
          `select highest_attempt, (select array_agg((artifact->>'attempt')::int order by position) from events
            where project = $1) as attempts from job_attempts where project = $1`,
          [caller.project],
        )
        expect(rows).toEqual([{ highest_attempt: 8, attempts: [7, 8] }])
      }),
    )
  })
