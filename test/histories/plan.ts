import * as fc from "fast-check"

/** How the right to publish ends: the claim or the API key. */
export type End = "takeOver" | "release" | "revoke"

/** One thing a client does, as plain data. Sizes in bytes; `which` picks one of what there is. */
export type Step =
  | {
      readonly do: "publish"
      readonly size: number
      readonly keyed: boolean
      readonly chunked: boolean
      readonly noted: boolean
    }
  /** The last keyed upload once more: unchanged, or with other bytes. */
  | { readonly do: "repeat" | "conflict" }
  /** One upload sent by two senders at once. */
  | { readonly do: "twins"; readonly size: number }
  /** The client breaks the connection midway; with a key it sends the upload again. */
  | { readonly do: "leave"; readonly size: number; readonly keyed: boolean }
  /** The right ends before an upload, in its middle, or while all of it is sent. */
  | { readonly do: "end"; readonly how: End; readonly when: "before" | "midway" | "meanwhile"; readonly size: number }
  | { readonly do: "read" | "delete"; readonly which: number }
  | { readonly do: "quota"; readonly bytes: number }
  | { readonly do: "list" | "events" | "heartbeat" | "wrong" }

export interface ClientPlan {
  readonly project: number
  /** The pod it talks to first. */
  readonly pod: number
  readonly visibility: "shared" | "private"
  /** With mobius.project.edit. */
  readonly edit: boolean
  readonly steps: ReadonlyArray<Step>
}

export interface Fault {
  /** It begins when the clients have done so many steps together. */
  readonly after: number
  readonly what: string
  readonly pod: number
  /** How long it lasts, in milliseconds, where it lasts. */
  readonly ms: number
}

export interface Plan {
  readonly clients: ReadonlyArray<ClientPlan>
  readonly faults: ReadonlyArray<Fault>
  /** At its end, what faults left behind is made to agree at once instead of after its timeouts. */
  readonly hastened: boolean
}

/** What a plan may hold. */
export interface Range {
  readonly clients: readonly [number, number]
  readonly steps: readonly [number, number]
  readonly faults: readonly [number, number]
  /** Kinds of faults that the stack knows. */
  readonly kinds: ReadonlyArray<string>
  readonly lasting: ReadonlyArray<number>
  readonly hastened: ReadonlyArray<boolean>
}

const size = fc.constantFrom(0, 900, 4096, 20_000, 70_000, 300_000)

/** Larger than what one segment of a connection carries, so that its middle is one. */
const large = fc.constantFrom(70_000, 300_000, 1_500_000)

const flag = fc.boolean()
const which = fc.nat(99)
const only = <const A extends Step>(step: A) => fc.constant<Step>(step)

const steps: ReadonlyArray<{ readonly weight: number; readonly arbitrary: fc.Arbitrary<Step> }> = [
  { weight: 1, arbitrary: only({ do: "heartbeat" }) },
  {
    weight: 14,
    arbitrary: fc.record({ do: fc.constant("publish" as const), size, keyed: flag, chunked: flag, noted: flag }),
  },
  { weight: 2, arbitrary: only({ do: "repeat" }) },
  { weight: 2, arbitrary: only({ do: "conflict" }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("twins" as const), size }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("leave" as const), size: large, keyed: flag }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("end" as const),
      how: fc.constantFrom("takeOver" as const, "release" as const, "revoke" as const),
      when: fc.constantFrom("before" as const, "midway" as const, "meanwhile" as const),
      size: large,
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("read" as const), which }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("delete" as const), which }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("quota" as const),
      bytes: fc.constantFrom(1e9, 100_000, 400_000, 2_000_000),
    }),
  },
  { weight: 2, arbitrary: only({ do: "list" }) },
  { weight: 2, arbitrary: only({ do: "events" }) },
  { weight: 1, arbitrary: only({ do: "wrong" }) },
]

const plansOf = (range: Range, least: 0 | 1): fc.Arbitrary<Plan> => {
  const between = <A>(arbitrary: fc.Arbitrary<A>, [minLength, maxLength]: readonly [number, number]) =>
    fc.array(arbitrary, { minLength: minLength * least, maxLength, size: "max" })
  const client: fc.Arbitrary<ClientPlan> = fc.record({
    project: fc.nat(1),
    pod: fc.nat(1),
    visibility: fc.constantFrom("shared" as const, "private" as const),
    edit: flag,
    steps: between(fc.oneof(...steps), range.steps),
  })
  const fault = (): fc.Arbitrary<Fault> =>
    fc.record({
      after: fc.nat(range.clients[0] * range.steps[0]),
      what: fc.constantFrom(...range.kinds),
      pod: fc.nat(1),
      ms: fc.constantFrom(...range.lasting),
    })
  return fc.record({
    clients: between(client, range.clients),
    faults: range.kinds.length === 0 ? fc.constant([]) : between(fault(), range.faults),
    hastened: fc.constantFrom(...range.hastened),
  })
}

/** Generates as `grown` does and shrinks as `shrunk` does, which knows smaller values. */
class Shrinkable extends fc.Arbitrary<Plan> {
  readonly #grown: fc.Arbitrary<Plan>
  readonly #shrunk: fc.Arbitrary<Plan>
  constructor(grown: fc.Arbitrary<Plan>, shrunk: fc.Arbitrary<Plan>) {
    super()
    this.#grown = grown
    this.#shrunk = shrunk
  }
  override generate(random: fc.Random): fc.Value<Plan> {
    return new fc.Value(this.#grown.generate(random, undefined).value, undefined)
  }
  override canShrinkWithoutContext(value: unknown): value is Plan {
    return this.#shrunk.canShrinkWithoutContext(value)
  }
  override shrink(plan: Plan, context: unknown): fc.Stream<fc.Value<Plan>> {
    return this.#shrunk.shrink(plan, context)
  }
}

/** Plans that are long enough to find something, and shrink down to nothing. */
export const plans = (range: Range): fc.Arbitrary<Plan> => new Shrinkable(plansOf(range, 1), plansOf(range, 0))

/** For people. */
export const showStep = (step: Step): string => {
  const { do: what, ...details } = step
  const words = Object.entries(details).flatMap(([name, value]) =>
    value === true ? [name] : value === false ? [] : [`${name} ${value}`],
  )
  return words.length === 0 ? what : `${what} (${words.join(", ")})`
}

/** For people, a line for each client and each fault. */
export const showPlan = ({ clients, faults, hastened }: Plan): string =>
  [
    ...clients.map(({ edit, pod, project, steps, visibility }, index) => {
      const kind = `project ${project}, pod ${pod}, ${visibility}${edit ? ", edit" : ""}`
      return `  client ${index} (${kind}): ${steps.map(showStep).join("; ")}`
    }),
    ...faults.map(({ after, ms, pod, what }) => `  after ${after} steps: ${what}, pod ${pod}, ${ms} ms`),
    `  hastened: ${hastened}`,
  ].join("\n")
