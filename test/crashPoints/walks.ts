import type * as Sharding from "@effect/cluster/Sharding"
import { Effect, Fiber, type Scope } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { EventBus } from "../../services/EventBus.ts"
import { Ids } from "../../services/Ids.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { relay, relayRound } from "../../src/actors/EventRelay.ts"
import { sweepStore } from "../../src/actors/Orphans.ts"
import { reconcile, sweep } from "../../src/actors/Project.ts"
import { pruneClaims, pruneEvents, pruneMessages, pruneTokens } from "../../src/actors/Pruning.ts"
import { removals } from "../../src/actors/Removals.ts"
import { tellProjects } from "../../src/actors/Ticks.ts"
import { acceptRestore, checkWatermark, markStore } from "../../src/actors/Watermark.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import { encodeSourceEvent } from "../../src/domain/SourceEventJson.ts"
import { sleep } from "../support/processes.ts"
import type { Journal, Tenant, Upload } from "./journal.ts"
import type { Home, Services, StackName } from "./stacks.ts"
import { stream } from "./stacks.ts"
import type { Trap } from "./trap.ts"
import { callerOf, type Manner, remove, send } from "./worker.ts"

/** What a walk needs. `product` runs what is watched; all else reaches the services behind the traps. */
export interface Scene {
  readonly journal: Journal
  readonly tenant: Tenant
  readonly project: ProjectHandle
  readonly home: Home
  /** Whether `product` has come by the step. */
  readonly passed: (step: string) => boolean
  readonly product: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Services>>
  readonly aside: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Services>>
}

export interface Walk {
  readonly name: string
  /** Faults that bring the walk to the steps it is about. */
  readonly given?: ReadonlyArray<Trap>
  /** It works on the whole plane, not on one project: no other case may run meanwhile. */
  readonly alone?: true
  /** Its steps are tried also where an earlier walk came by them. */
  readonly whole?: true
  /** Its steps are done by actors, whose fibers belong to no case. */
  readonly byActors?: true
  /** Its uploads say several times a second that they live; those of other walks never come to it. */
  readonly renewing?: true
  /** Only here can it be brought about; `why` says so in the report. */
  readonly only?: { readonly stack: StackName; readonly why: string }
  readonly run: (scene: Scene) => Effect.Effect<unknown, unknown, Scope.Scope | Sharding.Sharding>
}

/** An upload of a worker, known to the journal before its first request. */
const wish = ({ journal, project }: Scene, over: Partial<Upload> = {}): Upload => {
  const name = `files/${crypto.randomUUID()}.bin`
  const upload: Upload = { project, name, size: 1000, key: name, ...over }
  journal.write({ kind: "upload", ...upload })
  return upload
}

const sent = (scene: Scene, upload: Upload, manner: Manner = {}) => send(scene.journal, scene.tenant, upload, manner)

/** An artifact that is there already. */
const stored = (scene: Scene, over: Partial<Upload> = {}) => scene.aside(sent(scene, wish(scene, over)))

/** An upload whose owner died in the middle: row, reservation and bytes, and nobody who renews them. */
const abandoned = (scene: Scene) =>
  scene.aside(
    Effect.gen(function* () {
      const id = yield* (yield* Ids).artifact
      const { principal, project } = callerOf(scene.tenant)
      const blobKey = `${project}/${id}`
      yield* (yield* MetadataStore).begin({ id, project, blobKey, createdBy: principal, reservedBytes: 500 })
      yield* (yield* QuotaCounters).reserve(project, id, { need: 500, want: 500 })
      yield* object(blobKey)
      return { id, blobKey }
    }),
  )

const object = (key: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const writer = yield* (yield* BlobStore).open(key, {})
      yield* Effect.promise(async () => writer.write(new Uint8Array(10)))
      yield* writer.finish
    }),
  )

/** A write that goes on until the scope ends; enough for the store to have begun a file. */
const unfinished = (key: string) =>
  Effect.gen(function* () {
    const writer = yield* (yield* BlobStore).open(key, {})
    for (let n = 0; n < 3; n++) yield* Effect.promise(async () => writer.write(new Uint8Array(300_000)))
  })

const epochOf = (project: ProjectHandle) =>
  Effect.map(
    Effect.flatMap(ProjectDuties, (duties) => duties.take(project)),
    (epoch) => epoch ?? Number.NaN,
  )

const drained = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle" })

/** Two artifacts whose events stand in the stream and are not marked: a relay died in between. */
const appendedOnly = (scene: Scene) =>
  Effect.gen(function* () {
    yield* scene.aside(drained)
    yield* stored(scene)
    yield* stored(scene)
    return yield* scene.aside(
      Effect.gen(function* () {
        const bus = yield* EventBus
        const fresh = yield* (yield* Outbox).sequence(500)
        const entries = fresh.map((event) => ({
          sequence: event.sequence,
          id: event.id,
          type: event.type,
          project: event.artifact.project,
          payload: JSON.stringify(encodeSourceEvent(event)),
        }))
        yield* bus.append((fresh[0]?.sequence ?? 0) - 1, entries)
        return fresh
      }),
    )
  })

/** Rounds as the relay makes them after a fault: until one finds nothing to do. */
const rounds = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle", times: 50 })

const sweptStore = sweepStore({ ageSeconds: 0, confirmSeconds: 0, budget: { objects: 1_000_000, seconds: 60 } })

const fail = (step: string, moment: Trap["moment"]): ReadonlyArray<Trap> => [{ step, moment, fault: "fail" }]

const publishing: ReadonlyArray<Walk> = [
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

const deleting = (scene: Scene, once: boolean) =>
  Effect.flatMap(stored(scene), ({ artifact }) => scene.product(remove(scene.journal, scene.tenant, artifact.id, once)))

const ending: ReadonlyArray<Walk> = [
  { name: "delete", run: (scene) => deleting(scene, false) },
  { name: "delete, and never ask again", whole: true, run: (scene) => deleting(scene, true) },
  {
    name: "sweep",
    run: (scene) =>
      Effect.gen(function* () {
        yield* abandoned(scene)
        const epoch = yield* scene.aside(epochOf(scene.project))
        yield* scene.product(sweep(scene.project, epoch, 0))
      }),
  },
  {
    name: "reconcile",
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        const epoch = yield* scene.aside(epochOf(scene.project))
        yield* scene.product(reconcile(scene.project, epoch))
      }),
  },
]

const background: ReadonlyArray<Walk> = [
  {
    name: "tell projects of their work",
    alone: true,
    byActors: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* abandoned(scene)
        yield* scene.product(tellProjects(0, crypto.randomUUID()))
        yield* Effect.sleep("400 millis")
      }),
  },
  {
    name: "relay",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.product(rounds)
      }),
  },
  {
    name: "relay at once",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(drained)
        yield* stored(scene)
        const left = yield* scene.product(relayRound(true))
        yield* scene.product(relayRound(true, left._tag === "Moved" ? left.unmarked : []))
      }),
  },
  {
    name: "relay, and stop",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(drained)
        const relaying = yield* Effect.fork(scene.product(relay))
        yield* Effect.sleep("100 millis")
        yield* stored(scene)
        yield* Effect.sleep("150 millis")
        yield* Fiber.interrupt(relaying)
      }),
  },
  {
    name: "relay what stands already",
    alone: true,
    run: (scene) => Effect.zipRight(appendedOnly(scene), scene.product(rounds)),
  },
  {
    name: "remove queued objects",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        const { artifact } = yield* stored(scene)
        const { id } = artifact
        const { journal, project } = scene
        journal.write({ kind: "delete", project, id })
        yield* scene.aside(
          Effect.flatMap(Effect.all([MetadataStore, Effect.flatMap(Ids, (ids) => ids.event)]), ([metadata, event]) =>
            metadata.remove(callerOf(scene.tenant), id, event),
          ),
        )
        journal.write({ kind: "deleted", project, id })
        yield* scene.product(removals())
      }),
  },
  {
    name: "sweep the store",
    alone: true,
    run: (scene) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* scene.aside(object(`${scene.project}/nobody`))
          yield* scene.aside(unfinished(`${scene.project}/unfinished`))
          yield* scene.aside(Effect.flatMap(StoreGuard, (guard) => guard.suspect([`${scene.project}/gone`])))
          yield* Effect.sleep("20 millis")
          yield* scene.product(sweptStore)
          yield* scene.product(sweptStore)
        }),
      ),
  },
  {
    name: "mark the store",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* scene.aside(markStore())
        yield* stored(scene)
        yield* scene.aside(drained)
        yield* scene.product(markStore())
      }),
  },
  {
    name: "prune",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.aside(drained)
        yield* scene.product(pruneEvents(0))
        yield* scene.product(pruneTokens)
        yield* scene.product(pruneClaims(172_800))
        yield* scene.product(pruneMessages)
      }),
  },
]

/** Last, because they leave numbers behind that are not dense. */
const restoring: ReadonlyArray<Walk> = [
  {
    name: "meet a store of a newer database",
    alone: true,
    run: (scene) =>
      Effect.scoped(
        Effect.gen(function* () {
          const mark = { mark: crypto.randomUUID(), sequence: 1, made_at: "2026-01-01T00:00:00.000Z" }
          yield* scene.aside(Effect.flatMap(BlobStore, (blobs) => blobs.setWatermark(JSON.stringify(mark))))
          yield* scene.aside(unfinished(`${scene.project}/unfinished`))
          yield* Effect.sleep("20 millis")
          yield* scene.product(checkWatermark())
          yield* scene.product(sweptStore)
          yield* scene.product(acceptRestore)
        }),
      ),
  },
  {
    name: "meet a stream that is ahead",
    alone: true,
    run: (scene) =>
      Effect.gen(function* () {
        const { journal, project } = scene
        yield* scene.aside(drained)
        yield* scene.aside(
          Effect.gen(function* () {
            const bus = yield* EventBus
            const id = yield* (yield* Ids).event
            const sequence = (yield* bus.top) + 1
            journal.write({ kind: "foreign", id })
            const payload = JSON.stringify({ event_type: "artifact.created", source_id: "foreign", meta: { id } })
            yield* bus.append(sequence - 1, [{ sequence, id, type: "artifact.created", project, payload }])
          }),
        )
        yield* stored(scene)
        yield* scene.product(rounds)
      }),
  },
  {
    name: "meet a stream that lost everything",
    alone: true,
    only: { stack: "production", why: "a stream in the database cannot be lost alone" },
    run: (scene) =>
      Effect.gen(function* () {
        yield* stored(scene)
        yield* scene.aside(drained)
        yield* stream(scene.home).lose
        yield* scene.product(rounds)
      }),
  },
  {
    name: "meet a stream that lost an entry",
    alone: true,
    only: { stack: "production", why: "a stream in the database cannot be lost alone" },
    run: (scene) =>
      Effect.gen(function* () {
        const [first] = yield* appendedOnly(scene)
        yield* stream(scene.home).loseEntry(first?.sequence ?? 0)
        yield* scene.product(rounds)
      }),
  },
]

export const walks: ReadonlyArray<Walk> = [...publishing, ...ending, ...background, ...restoring]

/** Functions whose steps are come by on the production stack alone. */
export const productionOnly = ["EventRelay.refill", "EventRelay.standingNow"]
