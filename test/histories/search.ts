import * as fc from "fast-check"
import { runHistory, type Stack } from "./history.ts"
import { type Plan, plans, type Range, showPlan } from "./plan.ts"
import { embeddedFaults, startEmbedded } from "./stacks/embedded.ts"
import { startMemory } from "./stacks/memory.ts"
import { failoverFaults, productionFaults, startProduction } from "./stacks/production.ts"

/** How many histories are made on a stack, and of what kind. */
interface Search {
  readonly start: () => Promise<Stack>
  /** For some seconds, where there is time for that. */
  readonly short?: Range & { readonly histories: number }
  /** For as long as somebody wants to wait. */
  readonly long: Range
}

/** A stack in one process, without faults. */
const calm = { faults: [0, 0], kinds: [], lasting: [0], hastened: [false] } as const

/** Of two pods, for as long as somebody wants to wait. */
const long = {
  clients: [2, 8],
  steps: [5, 30],
  faults: [0, 5],
  kinds: productionFaults,
  lasting: [300, 3000, 16_000],
  hastened: [true, false],
} as const satisfies Range

export const searches = {
  memory: {
    start: startMemory,
    short: { ...calm, histories: 8, clients: [3, 5], steps: [8, 14] },
    long: { ...calm, clients: [2, 8], steps: [5, 40] },
  },
  embedded: {
    start: startEmbedded,
    short: {
      histories: 1,
      clients: [4, 5],
      steps: [7, 10],
      faults: [1, 2],
      kinds: embeddedFaults,
      lasting: [300, 1500],
      hastened: [false],
    },
    long: {
      clients: [2, 8],
      steps: [5, 30],
      faults: [0, 4],
      kinds: embeddedFaults,
      lasting: [300, 3000, 12_000],
      hastened: [false],
    },
  },
  production: {
    start: () => startProduction(),
    short: {
      histories: 1,
      clients: [4, 5],
      steps: [7, 10],
      faults: [2, 3],
      kinds: productionFaults,
      lasting: [300, 1500],
      hastened: [true],
    },
    long,
  },
  s3: { start: () => startProduction({ store: "s3" }), long },
  failover: {
    start: () => startProduction({ replicating: true }),
    long: { ...long, faults: [1, 3], kinds: failoverFaults },
  },
} satisfies Record<string, Search>

export type StackName = keyof typeof searches
/** Stacks that `npm test` has time for. */
type ShortName = { [Name in StackName]: (typeof searches)[Name] extends { short: unknown } ? Name : never }[StackName]
export const stackNames = Object.keys(searches) as ReadonlyArray<StackName>

/** How long a failing plan is made smaller, in milliseconds: each try is a whole history on a new stack. */
const shrinksFor = 240_000

/** Of a failure that is looked for again; fast-check's. */
const replayed = (): { readonly seed?: number; readonly path?: string } => {
  const { HISTORY_PATH: path, HISTORY_SEED: seed } = process.env
  return { ...(seed !== undefined && { seed: Number(seed) }), ...(path !== undefined && { path }) }
}

const freshSeed = () => Math.trunc(Math.random() * 2 ** 31)

const again = (name: StackName, length: "short" | "long") =>
  length === "short"
    ? `npx vitest run --config test/vitest.config.ts test/histories/${name}.test.ts`
    : `npm run test:long -- ${name}`

/**
 * Makes one history after the other on a stack while `more` says so, each from a seed of its own, and tells of each by a
 * line. Returns, for people, what did not hold in the first that failed, the smallest plan that failed too, and how to
 * have it again; undefined when all held.
 */
export const search = async (
  name: StackName,
  length: "short" | "long",
  more: (made: number) => boolean,
): Promise<string | undefined> => {
  const { start, [length]: range }: Search = searches[name]
  if (range === undefined) throw new Error(`there is no ${length} search on ${name}`)
  let stack: Stack | undefined
  const drop = async () => {
    await stack?.dispose()
    stack = undefined
  }
  const stackNow = async () => (stack ??= await start())
  const happen = async (seed: number, plan: Plan) => {
    const { faults, summary } = await runHistory(await stackNow(), plan)
    const words = faults.length === 0 ? summary : `NOT AS PROMISED\n  ${faults.slice(0, 5).join("\n  ")}`
    console.log(`history of seed ${seed}, ${name}: ${words}`)
    if (faults.length > 0) throw new Error(`${faults.join("\n")}\n\nLast words:\n${stack?.logs().slice(-12_000)}`)
  }
  /** A stack on which a history failed is not used again. */
  const check = (seed: number) => {
    let giveUpAt = Number.POSITIVE_INFINITY
    const property = fc.asyncProperty(plans(range), async (plan) => {
      if (Date.now() > giveUpAt) return
      await stackNow().catch((error: unknown) => {
        // Says nothing about the plan.
        giveUpAt = 0
        throw new Error(`${name} did not start: ${String(error)}`, { cause: error })
      })
      try {
        await happen(seed, plan)
      } catch (error) {
        giveUpAt = Math.min(giveUpAt, Date.now() + shrinksFor)
        await drop()
        throw error
      }
    })
    return fc.check(property, { ...replayed(), seed, numRuns: 1 })
  }
  try {
    for (let made = 0; more(made); made++) {
      const run = await check(replayed().seed ?? freshSeed())
      if (run.failed)
        return (
          `Again: HISTORY_SEED=${run.seed} HISTORY_PATH=${run.counterexamplePath} ${again(name, length)}\n` +
          `Made smaller ${run.numShrinks} times:\n${(run.counterexample ?? []).map(showPlan).join("")}\n\n` +
          (run.errorInstance instanceof Error ? run.errorInstance.message : String(run.errorInstance))
        )
      // One that is had again is had once.
      if (replayed().seed !== undefined) return undefined
    }
    return undefined
  } finally {
    await drop()
  }
}

/** As many histories as `npm test` has time for. */
export const shortSearch = (name: ShortName): Promise<string | undefined> =>
  search(name, "short", (made) => made < searches[name].short.histories)
