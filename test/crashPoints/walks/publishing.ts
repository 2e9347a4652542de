import { Effect, Fiber } from "effect"
import { ClaimStore } from "../../../services/ClaimStore.ts"
import { ProjectStore } from "../../../services/ProjectStore.ts"
import { QuotaCounters } from "../../../services/QuotaCounters.ts"
import { sleep } from "../../support/processes.ts"
import type { Upload } from "../journal.ts"
import type { Trap } from "../trap.ts"
import type { Scene, Walk } from "../walk.ts"
import { sent, wish } from "./scenery.ts"

const fail = (step: string, moment: Trap["moment"]): ReadonlyArray<Trap> => [{ step, moment, fault: "fail" }]

export const publishing: ReadonlyArray<Walk> = [
  { name: "publish", run: (scene) => scene.product(sent(scene, wish(scene))) },
  { name: "publish without a key", run: (scene) => scene.product(sent(scene, wish(scene, { key: undefined }))) },
  {
    name: "publish a body without a length",
    run: (scene) => scene.product(sent(scene, wish(scene, { size: 600_000 }), { chunked: true })),
  },
  {
    name: "publish when the reservation was lost",
    run: (scene) => {
      const lose = Effect.gen(function* () {
        const { reservations } = yield* (yield* ProjectStore).quotaSnapshot(scene.project)
        const quota = yield* QuotaCounters
        yield* Effect.forEach(reservations, ({ uploadId }) => quota.release(scene.project, uploadId))
      })
      const before = () => Effect.runPromise(scene.aside(lose))
      return scene.product(sent(scene, wish(scene, { size: 600_000 }), { chunked: true, before }))
    },
  },
  {
    name: "publish slowly",
    renewing: true,
    run: (scene) =>
      scene.product(sent(scene, wish(scene), { pause: () => scene.passed("Upload.renewal: QuotaCounters.renew") })),
  },
  {
    name: "publish, and the claim ends",
    run: (scene) =>
      Effect.gen(function* () {
        const { rest, sending } = yield* halted(scene, scene.product, wish(scene, { refused: true }))
        yield* scene.aside(Effect.flatMap(ClaimStore, (claims) => claims.releaseJob(scene.project, "job:1")))
        rest()
        yield* Fiber.join(sending)
      }),
  },
  {
    name: "publish what is refused",
    run: (scene) => scene.product(Effect.ignore(sent(scene, wish(scene, { refused: true }), { wrong: true }))),
  },
  {
    name: "publish, the answer to begin is lost",
    given: fail("Publish.begin: MetadataStore.begin", "after"),
    run: (scene) => scene.product(sent(scene, wish(scene))),
  },
  {
    name: "publish, the answer to commit is lost",
    given: fail("Publish.commit: MetadataStore.commit #2", "after"),
    run: (scene) => scene.product(sent(scene, wish(scene))),
  },
  {
    name: "publish, the commit does not arrive",
    given: fail("Publish.commit: MetadataStore.commit #2", "before"),
    run: (scene) => scene.product(sent(scene, wish(scene))),
  },
  {
    name: "replay",
    renewing: true,
    run: (scene) =>
      Effect.gen(function* () {
        const upload = wish(scene)
        yield* scene.aside(sent(scene, upload))
        yield* scene.product(
          sent(scene, upload, { pause: () => scene.passed("Publish.replay: Authenticator.stillValid") }),
        )
      }),
  },
  {
    name: "replay after the claim's end",
    run: (scene) =>
      Effect.gen(function* () {
        const upload = wish(scene)
        yield* scene.aside(sent(scene, upload))
        yield* scene.aside(Effect.flatMap(ClaimStore, (claims) => claims.releaseJob(scene.project, "job:1")))
        // What was believed of the token a second ago is not believed any more.
        yield* Effect.sleep("1100 millis")
        yield* scene.product(sent(scene, upload))
      }),
  },
  { name: "take over", whole: true, run: (scene) => takeOver(scene, scene.aside, scene.product) },
  { name: "be taken over", run: (scene) => takeOver(scene, scene.product, scene.aside) },
]

/** An upload that waits before its body's end until `rest` is called, or that has failed or hangs before. */
const halted = Effect.fnUntraced(function* (scene: Scene, by: Scene["product"], upload: Upload) {
  const until = Promise.withResolvers<void>()
  const arrived = Promise.withResolvers<void>()
  const manner = { until: until.promise, waiting: arrived.resolve }
  const sending = yield* Effect.fork(Effect.ignore(by(sent(scene, upload, manner))))
  sending.addObserver(() => arrived.resolve())
  yield* Effect.promise(() => Promise.race([arrived.promise, sleep(1000)]))
  return { sending, rest: until.resolve }
})

/** A second request with the key of one that is still on its way. */
const takeOver = (scene: Scene, first: Scene["product"], second: Scene["product"]) =>
  Effect.gen(function* () {
    const upload = wish(scene)
    const { rest, sending } = yield* halted(scene, first, upload)
    yield* Effect.ensuring(second(sent(scene, upload)), Effect.sync(rest))
    yield* Fiber.join(sending)
  })
