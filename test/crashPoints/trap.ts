import { Context, Effect, FiberRef, Stream } from "effect"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { keyOf, readSteps, type Step } from "./sites.ts"

/** `kill`: it stands there until this process dies; `fail`: the dependency says it is away; `hang`: nothing, until `release`. */
export type Fault = "kill" | "fail" | "hang"
/** Before the call reaches the dependency, or after it did its work, or refused to, and before anybody hears of it. */
export type Moment = "before" | "after"

/** One fault at one step, once. */
export interface Trap {
  readonly step: string
  readonly moment: Moment
  readonly fault: Fault
}

/** What is armed for the fibers of one case, and which steps they came by. */
export class Watch {
  readonly passed = new Set<string>()
  readonly fired = new Set<Trap>()
  readonly traps: ReadonlyArray<Trap>
  readonly #held = Promise.withResolvers<void>()

  /** Called when a fiber stands at the step where it is to die. */
  readonly arrive: () => void

  constructor(traps: ReadonlyArray<Trap>, arrive: () => void) {
    this.traps = traps
    this.arrive = arrive
  }

  /** What hangs goes on. */
  readonly release = (): void => this.#held.resolve()
  readonly released = (): Promise<void> => this.#held.promise

  pass(step: Step): Trap | undefined {
    this.passed.add(step.name)
    const trap = this.traps.find((one) => one.step === step.name && !this.fired.has(one))
    if (trap !== undefined) this.fired.add(trap)
    return trap
  }
}

/** Inherited by whatever the fibers of a case fork, so that cases may run at once. */
export const watching = FiberRef.unsafeMake<Watch | undefined>(undefined)

/** For fibers that no case has forked: those of actors. One case at a time may use it. */
export const everybody: { watch: Watch | undefined } = { watch: undefined }

const dependencyOf = (service: string) => {
  if (service === "BlobStore" || service === "BlobWriter") return "blob_store"
  return service === "QuotaCounters" || service === "EventBus" ? "redis" : "postgres"
}

type Act = Effect.Effect<void, DependencyUnavailable>

const act = (watch: Watch, { fault }: Trap, { method, service }: Step): Act => {
  switch (fault) {
    case "kill":
      return Effect.zipRight(Effect.sync(watch.arrive), Effect.never)
    case "hang":
      return Effect.promise(watch.released)
    case "fail":
      return new DependencyUnavailable({
        dependency: dependencyOf(service),
        operation: `${service}.${method}`,
        cause: new Error("a planted fault"),
      })
  }
}

type AnyEffect = Effect.Effect<unknown, unknown, unknown>
type AnyStream = Stream.Stream<unknown, unknown, unknown>

const around = (watch: Watch, trap: Trap, step: Step, call: AnyEffect): AnyEffect =>
  trap.moment === "before"
    ? Effect.zipRight(act(watch, trap, step), call)
    : Effect.flatMap(Effect.exit(call), (answer) => Effect.zipRight(act(watch, trap, step), answer))

/** Whoever runs it is asked for its case only then. */
const watched = <A>(step: Step, idle: A, armed: (watch: Watch, trap: Trap) => A): Effect.Effect<A> =>
  Effect.withFiberRuntime((fiber) => {
    const watch = fiber.getFiberRef(watching) ?? everybody.watch
    const trap = watch?.pass(step)
    return Effect.succeed(watch === undefined || trap === undefined ? idle : armed(watch, trap))
  })

/** A writer is written to from outside of fibers, so it belongs to the case that opened it. */
const trappedWriter = (writer: Record<string, unknown>, watch: Watch, steps: Places): unknown =>
  new Proxy(writer, {
    get: (target, method) => {
      const member = target[method as string]
      const step = steps.here("BlobWriter", method)
      if (step === undefined) return member
      if (Effect.isEffect(member)) return trappedEffect(step, member as AnyEffect, steps)
      const write = member as (chunk: Uint8Array) => Promise<void> | undefined
      return (chunk: Uint8Array) => {
        const trap = watch.pass(step)
        if (trap === undefined) return write(chunk)
        const writing = Effect.promise(async () => write(chunk))
        return Effect.runPromise(around(watch, trap, step, writing) as Effect.Effect<void>)
      }
    },
  })

const trappedEffect = (step: Step, call: AnyEffect, steps: Places): AnyEffect =>
  Effect.flatten(watched(step, call, (watch, trap) => around(watch, trap, step, call))).pipe((effect) =>
    step.service === "BlobStore" && step.method === "open"
      ? Effect.flatMap(effect, (writer) =>
          Effect.map(FiberRef.get(watching), (own) => {
            const watch = own ?? everybody.watch
            return watch === undefined ? writer : trappedWriter(writer as Record<string, unknown>, watch, steps)
          }),
        )
      : effect,
  )

const trappedStream = (step: Step, stream: AnyStream): AnyStream =>
  Stream.unwrap(
    watched(step, stream, (watch, trap): AnyStream => {
      const acting = Stream.drain(Stream.fromEffect(act(watch, trap, step)))
      return trap.moment === "before" ? Stream.concat(acting, stream) : Stream.concat(stream, acting)
    }),
  )

/** The steps by their places in the source, asked for by whoever stands at one. */
class Places {
  readonly #steps: ReadonlyMap<string, Step>
  /** Places in the walks from which a service was used and that the reading of the source did not find. */
  readonly unknown = new Set<string>()

  constructor(steps: ReadonlyArray<Step>) {
    this.#steps = new Map(steps.map((step) => [keyOf(step.place, step.service, step.method), step]))
  }

  /** The step at which the caller of the member that is being read stands; `undefined` outside of the walks. */
  here(service: string, method: string | symbol): Step | undefined {
    if (typeof method !== "string") return undefined
    const kept = Error.stackTraceLimit
    Error.stackTraceLimit = 4
    const { stack = "" } = new Error()
    Error.stackTraceLimit = kept
    const caller = stack
      .split("\n")
      .slice(1)
      .find((line) => !line.includes("/crashPoints/trap.ts"))
    const place = /\/(src\/(?:publish|artifacts|actors)\/\w+\.ts:\d+):\d+\)?$/.exec(caller ?? "")?.[1]
    if (place === undefined) return undefined
    const key = keyOf(place, service, method)
    const step = this.#steps.get(key)
    if (step === undefined) this.unknown.add(key)
    return step
  }
}

const notDependencies = new Set(["Ids", "ContentHasher"])

const trappedService = (name: string, service: object, steps: Places): object =>
  new Proxy(service, {
    get: (target, method) => {
      const member = Reflect.get(target, method) as unknown
      if (typeof member !== "function" && typeof member !== "object") return member
      const step = steps.here(name, method)
      if (step === undefined) return member
      const wrapped = (value: unknown): unknown => {
        if (Effect.isEffect(value)) return trappedEffect(step, value as AnyEffect, steps)
        return Stream.StreamTypeId in (value as object) ? trappedStream(step, value as AnyStream) : value
      }
      return typeof member === "function"
        ? (...args: ReadonlyArray<unknown>) => wrapped(member.apply(target, args))
        : wrapped(member)
    },
  })

/** Steps whose contract knows no failure. */
export const neverFails = new Set(["Wakeup.ring", "Wakeup.listen"])

/** The services of a stack, each of whose calls from the walks can be made to fail, hang or be the last. */
export const trapped = <A>(context: Context.Context<A>) => {
  const { steps, unread } = readSteps()
  const places = new Places(steps)
  const services = new Map<string, unknown>()
  for (const [key, service] of context.unsafeMap) {
    const name = /^services\/(\w+)$/.exec(key)?.[1]
    const left = name === undefined || notDependencies.has(name)
    services.set(key, left ? service : trappedService(name, service as object, places))
  }
  return {
    context: Context.unsafeMake<A>(services),
    steps,
    unread,
    unknown: (): ReadonlyArray<string> => [...places.unknown],
  }
}
