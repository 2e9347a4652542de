import { Effect, Logger, LogLevel } from "effect"
import { casesOf, type Extent, type Plane, planeOf, record, runAll, runCase } from "./cases.ts"
import { Journal } from "./journal.ts"
import { type Home, open, type StackName } from "./stacks.ts"
import { type Sample, sampled } from "./sample.ts"
import { settle } from "./settle.ts"
import type { Say } from "./start.ts"
import type { Trap } from "./trap.ts"
import { walks } from "./walks.ts"

/** What this program is told by whoever started it. */
export type Order =
  /** All walks without a fault, then each with each failing and hanging step; then everything must agree. */
  | {
      readonly do: "faults"
      readonly extent: Extent
      readonly walk?: string | undefined
      readonly sample?: Sample | undefined
    }
  /** The walks without a fault alone. */
  | { readonly do: "record"; readonly walk?: string | undefined }
  /** Walks that go each to its step, where this process dies as soon as all stand there. */
  | { readonly do: "kill"; readonly cases: ReadonlyArray<{ readonly walk: string; readonly trap: Trap }> }
  /** What the processes before it left behind must come to agree. */
  | { readonly do: "settle" }

export interface Report {
  /** Steps of the source, by name, with their places. */
  readonly steps: ReadonlyArray<{ readonly name: string; readonly place: string }>
  /** Steps that each walk came by, without a fault. */
  readonly passed: Readonly<Record<string, ReadonlyArray<string>>>
  readonly cases: number
  /** What does not hold. */
  readonly sentences: ReadonlyArray<string>
}

/** Returns sentences about those that did not come by their step; else this process is dead. */
const dyingTogether = (plane: Plane, cases: Extract<Order, { do: "kill" }>["cases"]) =>
  Effect.async<ReadonlyArray<string>>((resume) => {
    const sentences: Array<string> = []
    let expected = cases.length
    const oneLess = () => {
      if (--expected > 0) return
      if (sentences.length === 0) process.kill(process.pid, "SIGKILL")
      else resume(Effect.succeed(sentences))
    }
    for (const { trap, walk: name } of cases) {
      const walk = walks.find((one) => one.name === name)
      if (walk === undefined) throw new Error(`no walk ${name}`)
      const missed = Effect.map(runCase(plane, walk, trap, oneLess), (outcome) => {
        sentences.push(...outcome.sentences, `${name} outlived ${trap.step}`)
        oneLess()
      })
      Effect.runFork(missed)
    }
  })

/** Says to whoever started this program how far it is. */
const say: Say = (line) => void process.send?.(line)

const obey = (order: Order, stack: StackName, home: Home, journalFile: string) =>
  Effect.gen(function* () {
    const plane = yield* planeOf(yield* open(stack, home), home, new Journal(journalFile))
    const { steps, unread } = plane.armed
    const sentences: Array<string> = [...unread]
    const passed: Record<string, ReadonlyArray<string>> = {}
    let cases = 0
    if (order.do === "kill") sentences.push(...(yield* dyingTogether(plane, order.cases)))
    if (order.do === "faults" || order.do === "record") {
      const recorded = yield* record(plane, stack, order.walk, say)
      for (const outcome of recorded) {
        passed[outcome.walk.name] = [...outcome.passed]
        sentences.push(...outcome.sentences)
      }
      if (order.do === "faults") {
        const all = sampled(casesOf(passed, order.extent), order.sample)
        cases = all.length
        const outcomes = yield* runAll(all, (walk, trap) => runCase(plane, walk, trap), say)
        sentences.push(...outcomes.flatMap((outcome) => outcome.sentences))
      }
    }
    if (order.do !== "kill") sentences.push(...(yield* settle(plane, say)))
    sentences.push(...plane.armed.unknown().map((key) => `${key}: this use of a service was not found in the source.`))
    return {
      steps: steps.map(({ name, place }) => ({ name, place })),
      passed,
      cases,
      sentences: [...new Set(sentences)],
    } satisfies Report
  }).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.None))

process.once("message", (message: { order: Order; stack: StackName; home: Home; journal: string }) => {
  void Effect.runPromise(obey(message.order, message.stack, message.home, message.journal)).then(
    (report) => process.send?.(report, () => process.exit(0)),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
})
