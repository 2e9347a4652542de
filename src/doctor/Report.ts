import { Context, Effect, Ref } from "effect"

/** What was found, by its kind: the sentence an operator reads first. */
export const findings = {
  database_older_than_store: "the blob store has seen a newer state of the database: it was restored or failed over",
  removals_held: "unknown objects are not removed, until `npm run doctor -- --accept-restore`",
  stream_ahead: "the event stream is ahead of the database: start a node, whose relay settles it",
  bytes_missing: "a ready artifact whose bytes are gone: delete it, or bring the object back",
  size_differs: "an object that has another size than its artifact",
  digest_differs: "an object whose SHA-256 is not its artifact's",
  object_unknown: "an object that no artifact and no queued removal knows; removed after two looks of the sweep",
  usage_differs: "a project whose usage is not the sum of its artifacts; --repair makes it so",
  counters_differ: "quota counters that are not the project's usage; --repair makes them so",
  event_missing: "an event that the database took for published and that is not in the stream",
  event_misplaced: "a place in the stream that holds another event than the database says",
  event_twice: "an event that stands in the stream at a second place",
  sequence_gap: "a sequence that neither the database nor the stream has",
  events_late: "events have waited for the stream for more than a minute",
  removals_parked: "removals of deleted artifacts' objects that failed too often",
} as const

/** What may be as it is, and is told all the same: it does not change the exit code. */
export const notices = {
  events_unknown: "entries of the stream that the database does not know: facts that a restore undid",
} as const

export type FindingKind = keyof typeof findings
export type NoticeKind = keyof typeof notices
type Details = Readonly<Record<string, string | number>>

export interface Finding {
  readonly kind: FindingKind | NoticeKind
  readonly details: Details
  readonly repaired: boolean
}

export interface CheckResult {
  readonly name: string
  readonly examined: number
  readonly findings: number
  /** Why the check came to no end; absent: it did. */
  readonly failure?: string
}

/** Where checks tell what they find, one thing at a time, so that memory does not grow with it. */
export class Findings extends Context.Tag("src/doctor/Findings")<
  Findings,
  {
    readonly found: (kind: FindingKind, details: Details, repaired?: boolean) => Effect.Effect<void>
    readonly noticed: (kind: NoticeKind, details: Details) => Effect.Effect<void>
  }
>() {}

/** How a report is written: each finding as it comes, then the whole. Lines go to `print`. */
export interface Writer {
  readonly begin: Effect.Effect<void>
  readonly finding: (finding: Finding) => Effect.Effect<void>
  readonly end: (checks: ReadonlyArray<CheckResult>, outcome: Outcome) => Effect.Effect<void>
}

export type Outcome = "clean" | "findings" | "not_checked"
export const exitCodes: Readonly<Record<Outcome, number>> = { clean: 0, findings: 1, not_checked: 2 }

type Print = (line: string) => Effect.Effect<void>

/** One JSON document, a finding a line: `{"findings": [{kind, repaired, …}], "checks": [CheckResult], "outcome"}`. */
export const jsonWriter = (print: Print): Writer => {
  let first = true
  return {
    begin: print(`{"findings": [`),
    finding: ({ details, kind, repaired }) =>
      Effect.suspend(() => {
        const comma = first ? "  " : ", "
        first = false
        return print(comma + JSON.stringify({ kind, repaired, ...details }))
      }),
    end: (checks, outcome) => print(`], "checks": ${JSON.stringify(checks)}, "outcome": "${outcome}"}`),
  }
}

/** Of each kind so many are named in the table; the JSON has all. */
const named = 20

const columns = (cells: ReadonlyArray<string>) =>
  `${(cells[0] ?? "").padEnd(10)}${(cells[1] ?? "").padStart(12)}${(cells[2] ?? "").padStart(10)}  ${cells[3] ?? ""}`.trimEnd()

/** A table of the checks, and below it what was found, by kind. */
export const tableWriter = (print: Print): Writer => {
  const byKind = new Map<Finding["kind"], { count: number; readonly lines: Array<string> }>()
  return {
    begin: Effect.void,
    finding: ({ details, kind, repaired }) =>
      Effect.sync(() => {
        const known = byKind.get(kind) ?? { count: 0, lines: [] }
        byKind.set(kind, known)
        known.count++
        if (known.lines.length >= named) return
        const told = Object.entries(details).map(([name, value]) => `${name}=${value}`)
        known.lines.push(`  ${[...told, ...(repaired ? ["repaired"] : [])].join(" ")}`)
      }),
    end: (checks, outcome) =>
      Effect.gen(function* () {
        yield* print(columns(["check", "examined", "findings"]))
        for (const { examined, failure, findings: count, name } of checks)
          yield* print(columns([name, String(examined), String(count), failure ?? ""]))
        for (const [kind, { count, lines }] of byKind) {
          yield* print("")
          yield* print(`${kind} (${count}): ${{ ...findings, ...notices }[kind]}`)
          for (const line of lines) yield* print(line)
          if (count > lines.length) yield* print(`  … and ${count - lines.length} more, all of them with --json`)
        }
        yield* print("")
        yield* print(
          { clean: "All agree.", findings: "Something does not agree.", not_checked: "Not all could be checked." }[
            outcome
          ],
        )
      }),
  }
}

/** What a check is: a name, and what it does; it returns how many things it looked at. */
export interface Check<E, R> {
  readonly name: string
  readonly run: Effect.Effect<number, E, R>
}

/** Runs the checks one after the other; one that fails is told of, and the others run all the same. */
export const report = <E, R>(checks: ReadonlyArray<Check<E, R>>, writer: Writer, describe: (error: E) => string) =>
  Effect.gen(function* () {
    const count = yield* Ref.make(0)
    const open = yield* Ref.make(0)
    const telling = Findings.of({
      found: (kind, details, repaired = false) =>
        Effect.all([
          Ref.update(count, (n) => n + 1),
          repaired ? Effect.void : Ref.update(open, (n) => n + 1),
          writer.finding({ kind, details, repaired }),
        ]),
      noticed: (kind, details) => writer.finding({ kind, details, repaired: false }),
    })
    yield* writer.begin
    const results: Array<CheckResult> = []
    for (const { name, run } of checks) {
      yield* Ref.set(count, 0)
      const outcome = yield* Effect.either(Effect.provideService(run, Findings, telling))
      const told = yield* Ref.get(count)
      results.push(
        outcome._tag === "Right"
          ? { name, examined: outcome.right, findings: told }
          : { name, examined: 0, findings: told, failure: describe(outcome.left) },
      )
    }
    const outcome: Outcome = results.some(({ failure }) => failure !== undefined)
      ? "not_checked"
      : (yield* Ref.get(open)) > 0
        ? "findings"
        : "clean"
    yield* writer.end(results, outcome)
    return outcome
  })
