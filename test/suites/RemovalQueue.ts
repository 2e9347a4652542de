import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import {
  blobKeyOf,
  callerOf,
  freshProject,
  live,
  publish,
  removeAs,
  type SqlLayer,
  type SuiteOptions,
} from "./fixtures.ts"

/** Makes tombstones in a project of their own and returns the keys of the objects to be removed. */
const queued = Effect.fn(function* (count: number) {
  const caller = yield* callerOf(yield* freshProject())
  return yield* Effect.replicateEffect(
    Effect.gen(function* () {
      const { artifact } = yield* publish(caller)
      yield* removeAs(caller, artifact.id)
      return blobKeyOf(caller.project, artifact.id)
    }),
    count,
  )
})

const takeOwn = (keys: ReadonlyArray<string>) =>
  RemovalQueue.pipe(
    Effect.flatMap((queue) => queue.take(10_000)),
    Effect.map((taken) => taken.filter(({ blobKey }) => keys.includes(blobKey))),
  )

/** The contract of services/RemovalQueue, a test a sentence. */
export const removalQueueSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`RemovalQueue: ${name}`, (it) => {
    it.effect("a deleted artifact's object is handed out, and counts as waiting until confirmed", () =>
      Effect.gen(function* () {
        const queue = yield* RemovalQueue
        const before = (yield* queue.backlog).waiting
        const keys = yield* queued(1)
        expect((yield* queue.backlog).waiting).toBe(before + 1)
        expect(yield* takeOwn(keys)).toEqual([{ blobKey: keys[0], attempt: 1 }])
        expect((yield* queue.backlog).waiting).toBe(before + 1)
        yield* queue.confirm(keys[0] ?? "")
        expect((yield* queue.backlog).waiting).toBe(before)
      }),
    )
    it.effect("a repeated delete does not queue it twice", () =>
      Effect.gen(function* () {
        const caller = yield* callerOf(yield* freshProject())
        const { artifact } = yield* publish(caller)
        yield* removeAs(caller, artifact.id)
        yield* removeAs(caller, artifact.id)
        expect(yield* takeOwn([blobKeyOf(caller.project, artifact.id)])).toHaveLength(1)
      }),
    )
    it.effect("no more than the limit are taken", () =>
      Effect.gen(function* () {
        const queue = yield* RemovalQueue
        yield* takeOwn([])
        const keys = yield* queued(3)
        expect(yield* queue.take(2)).toHaveLength(2)
        expect(yield* takeOwn(keys)).not.toHaveLength(0)
      }),
    )
    it.effect("a taken one is put off, then handed out again with a growing pause", () =>
      Effect.gen(function* () {
        const keys = yield* queued(1)
        expect(yield* takeOwn(keys)).toHaveLength(1)
        expect(yield* takeOwn(keys)).toEqual([])
        yield* Effect.sleep("1300 millis")
        expect(yield* takeOwn(keys)).toEqual([{ blobKey: keys[0], attempt: 2 }])
        yield* Effect.sleep("1300 millis")
        expect(yield* takeOwn(keys)).toEqual([])
      }),
    )
    it.effect("a confirmed one never comes again, and confirming is idempotent", () =>
      Effect.gen(function* () {
        const queue = yield* RemovalQueue
        const keys = yield* queued(1)
        yield* takeOwn(keys)
        yield* queue.confirm(keys[0] ?? "")
        yield* queue.confirm(keys[0] ?? "")
        yield* queue.confirm("no such key")
        yield* Effect.sleep("1200 millis")
        expect(yield* takeOwn(keys)).toEqual([])
      }),
    )
    it.effect("a taker to whom it no longer belongs confirms nothing", () =>
      Effect.gen(function* () {
        const queue = yield* RemovalQueue
        const keys = yield* queued(1)
        const [first] = yield* takeOwn(keys)
        yield* Effect.sleep("1300 millis")
        const [second] = yield* takeOwn(keys)
        const before = (yield* queue.backlog).waiting
        yield* queue.confirm(keys[0] ?? "", first?.attempt)
        expect((yield* queue.backlog).waiting).toBe(before)
        yield* queue.confirm(keys[0] ?? "", second?.attempt)
        expect((yield* queue.backlog).waiting).toBe(before - 1)
      }),
    )
    it.effect("one that was never taken can be confirmed", () =>
      Effect.gen(function* () {
        const keys = yield* queued(1)
        yield* (yield* RemovalQueue).confirm(keys[0] ?? "")
        expect(yield* takeOwn(keys)).toEqual([])
      }),
    )
    if (options.concurrent === true) {
      it.effect("takers at once never share one, and leave none out", () =>
        Effect.gen(function* () {
          const keys = yield* queued(12)
          const taken = yield* Effect.all(
            Array.from({ length: 4 }, () => takeOwn(keys)),
            { concurrency: "unbounded" },
          )
          const got = taken.flat().map(({ blobKey }) => blobKey)
          expect(new Set(got).size).toBe(got.length)
          const rest = (yield* takeOwn(keys)).map(({ blobKey }) => blobKey)
          expect([...got, ...rest].sort()).toEqual([...keys].sort())
        }),
      )
    }
  })
