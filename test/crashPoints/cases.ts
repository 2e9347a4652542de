import * as MessageStorage from "@effect/cluster/MessageStorage"
import * as RunnerHealth from "@effect/cluster/RunnerHealth"
import * as Runners from "@effect/cluster/Runners"
import * as RunnerStorage from "@effect/cluster/RunnerStorage"
import * as Sharding from "@effect/cluster/Sharding"
import * as ShardingConfig from "@effect/cluster/ShardingConfig"
import { Cause, Context, Effect, Exit, Fiber, Layer, type Scope } from "effect"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { relayRound } from "../../src/actors/EventRelay.ts"
import { sweepStore } from "../../src/actors/Orphans.ts"
import * as Project from "../../src/actors/Project.ts"
import { removals } from "../../src/actors/Removals.ts"
import { acceptRestore } from "../../src/actors/Watermark.ts"
import { Settings } from "../../src/Config.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import { sleep } from "../support/processes.ts"
import type { Journal, Tenant } from "./journal.ts"
import { judge } from "./judge.ts"
import type { Home, Services, StackName } from "./stacks.ts"
import { everybody, type Fault, type Moment, neverFails, type Trap, trapped, Watch, watching } from "./trap.ts"
import { type Scene, type Walk, walks } from "./walks.ts"
import { goOn, hire } from "./worker.ts"

/** A plane in this process, with and without traps, and the actors of its projects. */
export interface Plane {
  readonly home: Home
  readonly journal: Journal
  readonly base: Context.Context<Services>
  readonly armed: ReturnType<typeof trapped<Services>>
  readonly sharding: Context.Context<Sharding.Sharding>
}

/** A cluster of this process that keeps its messages in memory and looks for them often. */
const cluster = Sharding.layer.pipe(
  Layer.provideMerge(Runners.layerNoop),
  Layer.provideMerge(MessageStorage.layerMemory),
  Layer.provide([RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
  Layer.provide(ShardingConfig.layer({ entityMessagePollInterval: 200 })),
)

export const planeOf = (
  base: Context.Context<Services>,
  home: Home,
  journal: Journal,
): Effect.Effect<Plane, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const armed = trapped(base)
    const actors = Project.layer({ abandonedAfterSeconds: 0 }).pipe(
      Layer.provideMerge(cluster),
      Layer.provide(Layer.succeedContext(armed.context)),
    )
    return { home, journal, base, armed, sharding: yield* Layer.build(actors) }
  })

const aside =
  ({ base }: Plane): Scene["aside"] =>
  (effect) =>
    Effect.provide(effect, base) as never

/** One project's sweep and reconciliation, by whoever takes it over now; everything silent is dead. */
const served = Effect.fnUntraced(function* ({ project }: Tenant, reconciling: boolean) {
  const handle = ProjectHandle.make(project)
  const epoch = (yield* (yield* ProjectDuties).take(handle)) ?? Number.NaN
  yield* Project.sweep(handle, epoch, 0)
  if (reconciling) yield* Project.reconcile(handle, epoch)
})

const relayed = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle", times: 50 })

/** An operator's word after a doubt about the database. */
const accepted = Effect.flatMap(
  Effect.flatMap(StoreGuard, (guard) => guard.hold),
  (hold) => (hold === undefined ? Effect.void : acceptRestore),
)

export const inWords = (walk: Walk, trap: Trap | undefined) =>
  trap === undefined ? walk.name : `${walk.name} | ${trap.step} | ${trap.fault} ${trap.moment}`

interface Outcome {
  readonly passed: ReadonlySet<string>
  readonly sentences: ReadonlyArray<string>
}

/** How long a step may come after its walk ended, in background work. Milliseconds. */
const afterwards = 3000

/** One walk, with one fault or none; what failed then is tried again as a worker does, while the hanging step hangs. */
export const runCase = (plane: Plane, walk: Walk, trap: Trap | undefined): Effect.Effect<Outcome> =>
  Effect.gen(function* () {
    const { armed, home, journal } = plane
    const title = inWords(walk, trap)
    const outside = aside(plane)
    const tenant = yield* outside(hire(journal, title))
    const watch = new Watch([...(walk.given ?? []), ...(trap === undefined ? [] : [trap])])
    const settings = Context.get(armed.context, Settings)
    // An upload renews itself four times in this time.
    const services = Context.add(armed.context, Settings, {
      ...settings,
      abandonedAfterSeconds: walk.renewing ? 1 : 3600,
    })
    const scene: Scene = {
      journal,
      tenant,
      project: ProjectHandle.make(tenant.project),
      home,
      passed: (step) => watch.passed.has(step),
      aside: outside,
      product: (effect) => Effect.locally(Effect.provide(effect, services), watching, watch) as never,
    }
    const sentences: Array<string> = []
    if (walk.byActors) everybody.watch = watch
    if (trap?.fault === "hang") journal.write({ kind: "paused", project: tenant.project })
    const running = yield* Effect.forkDaemon(
      Effect.provide(Effect.exit(Effect.scoped(walk.run(scene))), plane.sharding),
    )
    const ended = { at: undefined as number | undefined }
    running.addObserver(() => {
      ended.at = Date.now()
    })
    const over = () => ended.at !== undefined && Date.now() - ended.at > (trap === undefined ? 500 : afterwards)
    const sprung = () => trap !== undefined && watch.fired.has(trap)
    yield* Effect.promise(async () => {
      while (!over() && !(sprung() && (trap?.fault === "hang" || ended.at !== undefined))) await sleep(10)
    })
    if (trap !== undefined && !sprung()) sentences.push(`${title}: the walk did not come by the step this time`)
    // What hangs is looked after by others meanwhile: a worker that tries again, a sweep, another relay.
    everybody.watch = undefined
    sentences.push(...(yield* outside(goOn(journal, tenant))))
    if (trap?.fault === "hang")
      yield* outside(Effect.ignore(Effect.zipRight(served(tenant, false), walk.alone ? relayed : Effect.void)))
    watch.release()
    const end = yield* Effect.timeoutOption(Fiber.join(running), "30 seconds")
    if (end._tag === "None") sentences.push(`${title}: the walk did not end after the dependency answered again`)
    else if (Exit.isFailure(end.value) && [...Cause.defects(end.value.cause)].length > 0)
      sentences.push(`${title}: the walk died: ${Cause.pretty(end.value.cause).slice(0, 600)}`)
    if (walk.alone) yield* outside(Effect.ignore(accepted))
    return { passed: watch.passed, sentences }
  }).pipe(
    Effect.catchAllCause((cause) =>
      Effect.succeed({
        passed: new Set<string>(),
        sentences: [`${inWords(walk, trap)}: the case itself failed: ${Cause.pretty(cause).slice(0, 600)}`],
      }),
    ),
  )

/** Runs cases, those that need the plane for themselves one after the other. */
export const runAll = <A>(
  cases: ReadonlyArray<readonly [Walk, Trap | undefined]>,
  run: (walk: Walk, trap: Trap | undefined) => Effect.Effect<A>,
): Effect.Effect<ReadonlyArray<A>> =>
  Effect.gen(function* () {
    const one = ([walk, trap]: readonly [Walk, Trap | undefined]) => run(walk, trap)
    const together = yield* Effect.forEach(
      cases.filter(([walk]) => !walk.alone),
      one,
      { concurrency: 16 },
    )
    const alone = yield* Effect.forEach(
      cases.filter(([walk]) => walk.alone),
      one,
    )
    return [...together, ...alone]
  })

/** How many cases are made of what the walks came by. */
export interface Extent {
  /** `once`: each step in the first walk that came by it, and all of those marked `whole`. `always`: in each walk. */
  readonly steps: "once" | "always"
  readonly faults: ReadonlyArray<Fault>
  readonly moments: ReadonlyArray<Moment>
}

const canHave = (step: string, fault: Fault) =>
  fault !== "fail" || !neverFails.has(step.split(": ")[1]?.split(" ")[0] ?? "")

/** The cases that follow from the steps which each walk came by without a fault. */
export const casesOf = (
  passed: Readonly<Record<string, ReadonlyArray<string>>>,
  { faults, moments, steps }: Extent,
): ReadonlyArray<readonly [Walk, Trap]> => {
  const seen = new Set<string>()
  return walks.flatMap((walk) => {
    const given = new Set(walk.given?.map(({ step }) => step))
    const own = (passed[walk.name] ?? []).filter((step) => {
      const first = !seen.has(step)
      if (!given.has(step)) seen.add(step)
      return !given.has(step) && (first || walk.whole === true || steps === "always")
    })
    return own.flatMap((step) =>
      faults
        .filter((fault) => canHave(step, fault))
        .flatMap((fault) => moments.map((moment) => [walk, { step, moment, fault }] as const)),
    )
  })
}

/** Every walk of the stack without a fault, or the one of this name alone, with the steps that it came by. */
export const record = (plane: Plane, stack: StackName, name: string | undefined) =>
  Effect.gen(function* () {
    const here = walks
      .filter(({ only }) => only === undefined || only.stack === stack)
      .filter((walk) => name === undefined || walk.name === name)
    return yield* runAll(
      here.map((walk) => [walk, undefined] as const),
      (walk, trap) => Effect.map(runCase(plane, walk, trap), (outcome) => ({ walk, ...outcome })),
    )
  })

/** How long the plane may take until everything agrees: an expired reservation takes 45 s. Milliseconds. */
const agreeingMillis = 75_000

/** Workers and duties go on until everything agrees, and then the listing of the store finds the rest. */
export const settle = (plane: Plane) =>
  aside(plane)(
    Effect.gen(function* () {
      const { journal } = plane
      const tenants = journal.of("tenant")
      const sentences: Array<string> = []
      yield* accepted
      const duties = (own: ReadonlyArray<Tenant>) =>
        Effect.forEach(own, (tenant) => served(tenant, true), { concurrency: 16, discard: true })
      // A sweep finds the uploads of half of the workers before these come back.
      yield* duties(tenants.filter((_, index) => index % 2 === 0))
      const answers = yield* Effect.forEach(tenants, (tenant) => goOn(journal, tenant), { concurrency: 16 })
      sentences.push(...answers.flat())
      const agreed = (complete: boolean, until: number) =>
        Effect.gen(function* () {
          for (let asked: ReadonlyArray<Tenant> = tenants; ;) {
            yield* relayed
            yield* removals()
            const { sentences: doubts, doubted } = yield* judge(journal, asked, complete)
            const late = Date.now() > until
            if (asked === tenants && (doubts.length === 0 || late)) return doubts
            // Those in doubt are asked again by themselves; all of them once these agree.
            asked = doubted.length === 0 || late ? tenants : doubted
            if (doubts.length === 0) continue
            yield* Effect.sleep("1 second")
            yield* duties(doubted)
          }
        })
      sentences.push(...(yield* agreed(false, Date.now() + agreeingMillis)))
      const listing = sweepStore({ ageSeconds: 0, confirmSeconds: 0, budget: { objects: 1_000_000, seconds: 60 } })
      yield* Effect.zipRight(listing, listing)
      sentences.push(...(yield* agreed(true, Date.now() + 5000)))
      return [...new Set(sentences)]
    }),
  )
