import { expect, layer } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import { Wakeup } from "../../services/Wakeup.ts"
import { live } from "./fixtures.ts"

/** How long one waiting took, in milliseconds. */
const waited = (wait: Effect.Effect<void>) => Effect.map(Effect.timed(wait), ([took]) => Duration.toMillis(took))

/** The contract of services/Wakeup; `other` rings from where another pod would. */
export const wakeupSuite = (name: string, subject: Layer.Layer<Wakeup>, other?: Layer.Layer<Wakeup>) =>
  layer(subject, live)(`Wakeup: ${name}`, (it) => {
    it.scoped("a listener returns at a ring, or after the time it gave", () =>
      Effect.gen(function* () {
        const wakeup = yield* Wakeup
        const wait = yield* wakeup.listen
        yield* wait(300)
        expect(yield* waited(wait(100))).toBeGreaterThanOrEqual(95)
        yield* Effect.fork(Effect.delay(wakeup.ring, "50 millis"))
        expect(yield* waited(wait(5000))).toBeLessThan(2000)
      }),
    )
    it.scoped("rings since the last return count as one", () =>
      Effect.gen(function* () {
        const wakeup = yield* Wakeup
        const wait = yield* wakeup.listen
        yield* wait(300)
        yield* Effect.replicateEffect(wakeup.ring, 10)
        yield* wait(5000)
        yield* wait(300)
        expect(yield* waited(wait(100))).toBeGreaterThanOrEqual(95)
      }),
    )
    if (other !== undefined) {
      it.scoped("a ring elsewhere is heard", () =>
        Effect.gen(function* () {
          const wait = yield* (yield* Wakeup).listen
          yield* wait(500)
          yield* Effect.fork(
            Effect.provide(
              Effect.delay(
                Effect.flatMap(Wakeup, ({ ring }) => Effect.zipRight(ring, Effect.sleep(500))),
                "50 millis",
              ),
              other,
            ),
          )
          expect(yield* waited(wait(5000))).toBeLessThan(3000)
        }),
      )
    }
  })
