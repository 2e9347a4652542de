import { Effect, Logger, LogLevel } from "effect"
import { casesOf, type Extent, planeOf, record, runAll, runCase, settle } from "./cases.ts"
import { Journal } from "./journal.ts"
import { type Home, open, type StackName } from "./stacks.ts"
import type { Trap } from "./trap.ts"
import { walks } from "./walks.ts"

/** What this program is told by whoever started it. */
export type Order =
  /** All walks without a fault, then each with each failing and hanging step; then everything must agree. */
  | { readonly do: "faults"; readonly extent: Extent; readonly walk?: string | undefined }
  /** The walks without a fault alone. */
  | { readonly do: "record"; readonly walk?: string | undefined }
  /** One walk that ends this process. */
  | { readonly do: "kill"; readonly walk: string; readonly trap: Trap }
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

const obey = (order: Order, stack: StackName, home: Home, journalFile: string) =>
  Effect.gen(function* () {
    const plane = yield* planeOf(yield* open(stack, home), home, new Journal(journalFile))
    const { steps, unread } = plane.armed
    const sentences: Array<string> = [...unread]
    const passed: Record<string, ReadonlyArray<string>> = {}
    let cases = 0
    if (order.do === "kill") {
      const walk = walks.find(({ name }) => name === order.walk)
      if (walk === undefined) throw new Error(`no walk ${order.walk}`)
      sentences.push(
        ...(yield* runCase(plane, walk, order.trap)).sentences,
        `${order.walk} outlived ${order.trap.step}`,
      )
    }
    if (order.do === "faults" || order.do === "record") {
      const recorded = yield* record(plane, stack, order.walk)
      for (const outcome of recorded) {
        passed[outcome.walk.name] = [...outcome.passed]
        sentences.push(...outcome.sentences)
      }
      if (order.do === "faults") {
        const all = casesOf(passed, order.extent)
        cases = all.length
        const outcomes = yield* runAll(all, (walk, trap) => runCase(plane, walk, trap))
        sentences.push(...outcomes.flatMap((outcome) => outcome.sentences))
      }
    }
    if (order.do !== "kill") sentences.push(...(yield* settle(plane)))
    sentences.push(...plane.armed.unknown().map((key) => `${key}: this use of a service was not found in the source.`))
    return { steps: steps.map(({ name, place }) => ({ name, place })), passed, cases, sentences } satisfies Report
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
