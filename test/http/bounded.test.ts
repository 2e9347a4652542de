import { Effect, Exit, Fiber, FiberId, Layer, Option } from "effect"
import { describe, expect, it } from "vitest"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { Settings } from "../../src/Config.ts"
import * as Drain from "../../src/http/Drain.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { abandon } from "../../src/publish/Upload.ts"

/** Whether it ends within the time when it runs as a finalizer, which is not interruptible. */
const endsWithin = (millis: number, finalizer: Effect.Effect<unknown>) =>
  Effect.runPromise(
    Effect.gen(function* () {
      const running = yield* Effect.forkDaemon(Effect.scoped(Effect.addFinalizer(() => finalizer)))
      return Option.isSome(yield* Effect.timeoutOption(Fiber.await(running), millis))
    }),
  )

describe("what a finalizer waits for is bounded", () => {
  it("an upload that failed answers, when the store does not answer to the removal of its bytes", async () => {
    const services = Layer.mergeAll(
      Layer.mock(MetadataStore, {
        fence: () => Effect.void,
        outcome: () => Effect.succeed({ _tag: "Gone" } as never),
        forget: () => Effect.void,
      }),
      Layer.mock(QuotaCounters, { release: () => Effect.void }),
      Layer.mock(BlobStore, { remove: () => Effect.never }),
    )
    const upload = { id: "art_1", project: "p", blobKey: "p/art_1", reservedBytes: 0 } as never
    const cleaning = Effect.provide(abandon(upload, Exit.interrupt(FiberId.none)), services)
    expect(await endsWithin(5000, cleaning)).toBe(true)
  })

  it("a stop goes on, when a request does not end after its connection was cut", async () => {
    const services = Layer.mergeAll(
      Layer.succeed(Settings, { drainDelaySeconds: 0, drainSeconds: 0 } as never),
      Layer.mock(Readiness, { drain: Effect.void, isDraining: () => true }),
    )
    const stop = Effect.gen(function* () {
      const drain = yield* Drain.make([{ sayLast: () => {}, close: () => Promise.resolve() }])
      yield* Effect.forkDaemon(drain.counted(Effect.never) as Effect.Effect<never>)
      yield* Effect.yieldNow()
      yield* drain.run
    })
    expect(await endsWithin(6000, Effect.provide(stop, services))).toBe(true)
  })
})
