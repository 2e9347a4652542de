import * as MessageStorage from "@effect/cluster/MessageStorage"
import * as RunnerHealth from "@effect/cluster/RunnerHealth"
import * as Runners from "@effect/cluster/Runners"
import * as RunnerStorage from "@effect/cluster/RunnerStorage"
import * as Sharding from "@effect/cluster/Sharding"
import * as ShardingConfig from "@effect/cluster/ShardingConfig"
import { Cause, Context, Duration, Effect, Exit, Fiber, Layer, type Scope } from "effect"
import * as Project from "../../src/actors/Project.ts"
import { Settings } from "../../src/Config.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import { sleep } from "../support/processes.ts"
import { accepted, relayed, served } from "./duties.ts"
import type { Journal } from "./journal.ts"
import type { Home, Services, StackName } from "./stacks.ts"
import type { Say } from "./start.ts"
import { everybody, type Fault, type Moment, neverFails, type Trap, trapped, Watch, watching } from "./trap.ts"
import type { Scene, Walk } from "./walk.ts"
import { boundedHangs, walks } from "./walks.ts"
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

export const inWords = (walk: Walk, trap: Trap | undefined) =>
  trap === undefined ? walk.name : `${walk.name} | ${trap.step} | ${trap.fault} ${trap.moment}`

interface Outcome {
  readonly passed: ReadonlySet<string>
  readonly sentences: ReadonlyArray<string>
}

/** How long a step may come after its walk ended, in background work. Milliseconds. */
const afterwards = 3000

/** Well above the two seconds of `boundedHangs`, for a busy machine. */
const boundMillis = 10_000

/**
 * One walk, with one fault or none; what failed then is tried again as a worker does, while the hanging step hangs. One
 * that is to be killed calls `arrive` at its step and never returns, unless it did not come by.
 */
export const runCase = (
  plane: Plane,
  walk: Walk,
  trap: Trap | undefined,
  arrive: () => void = () => {},
): Effect.Effect<Outcome> =>
  Effect.gen(function* () {
    const sentences: Array<string> = []
    const checked = (step: string) => {
      const sentence = `${walk.name}: there is no step "${step}" in the source`
      if (!plane.armed.steps.some(({ name }) => name === step) && !sentences.includes(sentence))
        sentences.push(sentence)
      return step
    }
    for (const { step } of walk.given ?? []) checked(step)
    const { armed, home, journal } = plane
    const title = inWords(walk, trap)
    const outside = aside(plane)
    const tenant = yield* outside(hire(journal, title))
    let stands = false
    const stand = () => {
      if (!stands) arrive()
      stands = true
    }
    const watch = new Watch([...(walk.given ?? []), ...(trap === undefined ? [] : [trap])], stand)
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
      passed: (step) => watch.passed.has(checked(step)),
      aside: outside,
      product: (effect) => Effect.locally(Effect.provide(effect, services), watching, watch) as never,
    }
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
    if (trap?.fault === "kill" && sprung()) {
      // A call that its walk interrupted never answers: then the process dies after the walk.
      yield* Effect.sleep("1 second")
      stand()
      yield* Effect.never
    }
    if (trap !== undefined && !sprung()) sentences.push(`${title}: the walk did not come by the step this time`)
    for (const given of walk.given ?? [])
      if (trap === undefined && !watch.fired.has(given))
        sentences.push(`${title}: the walk did not come by its given step "${given.step}"`)
    // What hangs is looked after by others meanwhile: a worker that tries again, a sweep, another relay.
    everybody.watch = undefined
    sentences.push(...(yield* outside(goOn(journal, tenant))))
    if (trap?.fault === "hang")
      yield* outside(Effect.ignore(Effect.zipRight(served(tenant, false), walk.alone ? relayed : Effect.void)))
    const bounded = trap?.fault === "hang" && boundedHangs.some((begin) => trap.step.startsWith(begin))
    if (bounded && (yield* Effect.timeoutOption(Fiber.await(running), boundMillis))._tag === "None")
      sentences.push(`${title}: the walk waits for what hangs, without a limit`)
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
  say: Say,
): Effect.Effect<ReadonlyArray<A>> =>
  Effect.gen(function* () {
    let done = 0
    const one = ([walk, trap]: readonly [Walk, Trap | undefined]) =>
      Effect.map(Effect.timed(run(walk, trap)), ([took, result]) => {
        say(`${++done} of ${cases.length}: ${inWords(walk, trap)}: ${Math.round(Duration.toMillis(took))} ms`)
        return result
      })
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
export const record = (plane: Plane, stack: StackName, name: string | undefined, say: Say) =>
  Effect.gen(function* () {
    const here = walks
      .filter(({ only }) => only === undefined || only.stack === stack)
      .filter((walk) => name === undefined || walk.name === name)
    return yield* runAll(
      here.map((walk) => [walk, undefined] as const),
      (walk, trap) => Effect.map(runCase(plane, walk, trap), (outcome) => ({ walk, ...outcome })),
      say,
    )
  })
