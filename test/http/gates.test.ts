import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Layer, Scope } from "effect"
import * as Settings from "../../src/Config.ts"
import type { ApiError } from "../../src/http/ApiErrors.ts"
import * as Gates from "../../src/http/Gates.ts"

const MiB = 1024 * 1024

const gates = Gates.layer.pipe(
  Layer.provide(Settings.layer),
  Layer.provide(
    Layer.setConfigProvider(
      ConfigProvider.fromMap(
        new Map([
          ["MAX_OPEN_DOWNLOADS", "4"],
          ["MAX_OPEN_STREAMS", "2"],
        ]),
      ),
    ),
  ),
)

const answerOf = (taken: Effect.Effect<void, ApiError, Scope.Scope>) =>
  Effect.map(Effect.either(taken), (result) =>
    result._tag === "Right" ? 200 : [result.left.status, result.left.error.code, result.left.headers?.["retry-after"]],
  )
const unavailable = [503, "service_unavailable", "2"]

describe("what the node holds for its readers", () => {
  it.scoped("downloads and streams are counted apart, each up to its limit", () =>
    Effect.gen(function* () {
      const { download, stream } = yield* Gates.Gates
      for (let n = 0; n < 4; n++) expect(yield* answerOf(download("a"))).toBe(200)
      expect(yield* answerOf(download("a"))).toEqual(unavailable)
      for (let n = 0; n < 2; n++) expect(yield* answerOf(stream("a"))).toBe(200)
      expect(yield* answerOf(stream("a"))).toEqual(unavailable)
    }).pipe(Effect.provide(gates)),
  )

  it.scoped("bytes that wait have a share for each project, until they were taken; few are not counted", () =>
    Effect.gen(function* () {
      const { waiting } = yield* Gates.Gates
      yield* waiting("b", MiB)
      const taken = yield* Scope.make()
      for (let n = 0; n < 32; n++) yield* Scope.extend(waiting("a", MiB), taken)
      expect(yield* answerOf(waiting("a", MiB))).toEqual(unavailable)
      expect(yield* answerOf(waiting("a", 1000))).toBe(200)
      expect(yield* answerOf(waiting("b", MiB))).toBe(200)
      yield* Scope.close(taken, Exit.void)
      expect(yield* answerOf(waiting("a", MiB))).toBe(200)
    }).pipe(Effect.provide(gates)),
  )
})
