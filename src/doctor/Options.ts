import { Effect, Schema } from "effect"
import { parseArgs } from "node:util"

/** What the command was asked to do; one of three tasks. */
export type Task =
  | {
      readonly _tag: "Check"
      readonly json: boolean
      readonly repair: boolean
      /** Bytes read a second; absent: digests are not read. */
      readonly scrubBytesPerSecond: number | undefined
    }
  | { readonly _tag: "AcceptRestore" }
  | { readonly _tag: "PlaceStoreId" }
  | { readonly _tag: "Help" }

/** The command line is not one. `message` is for whoever typed it. */
export class BadUsage extends Schema.TaggedError<BadUsage>()("BadUsage", { message: Schema.String }) {}

export const usage = `npm run doctor -- [options]

Checks the database, the blob store, the counters and the event stream against each other. Changes nothing by itself.
Exit code: 0 all agree, 1 something does not, 2 something could not be checked.

  --json               the report as one JSON document
  --scrub              also read every artifact's bytes and compare their SHA-256
  --scrub-rate MB      megabytes a second that --scrub reads at the most (20)
  --repair             make usage and counters equal to the artifacts' rows; nothing else is ever changed, no object removed
  --accept-restore     an operator's word after a restore or failover: unknown objects may be removed again
  --place-store-id     give the configured blob store this database's id, after the store was moved on purpose
  --help               this text`

const options = {
  json: { type: "boolean", default: false },
  scrub: { type: "boolean", default: false },
  "scrub-rate": { type: "string" },
  repair: { type: "boolean", default: false },
  "accept-restore": { type: "boolean", default: false },
  "place-store-id": { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const

const megabyte = 1_000_000

export const parseTask = (args: ReadonlyArray<string>): Effect.Effect<Task, BadUsage> =>
  Effect.gen(function* () {
    const { values } = yield* Effect.try({
      try: () => parseArgs({ args: [...args], options, strict: true, allowPositionals: false }),
      catch: (error) => new BadUsage({ message: error instanceof Error ? error.message : String(error) }),
    })
    if (values.help) return { _tag: "Help" }
    const words = ["accept-restore", "place-store-id"] as const
    const given = words.filter((word) => values[word])
    const checking = values.json || values.scrub || values.repair || values["scrub-rate"] !== undefined
    if (given.length > 1 || (given.length === 1 && checking))
      return yield* new BadUsage({ message: `--${given[0]} stands alone: it takes no other option.` })
    if (values["accept-restore"]) return { _tag: "AcceptRestore" }
    if (values["place-store-id"]) return { _tag: "PlaceStoreId" }
    const rate = values["scrub-rate"] ?? "20"
    if (!/^\d{1,6}(\.\d{1,3})?$/.test(rate) || Number(rate) <= 0)
      return yield* new BadUsage({ message: "--scrub-rate must be a number of megabytes a second above 0." })
    if (values["scrub-rate"] !== undefined && !values.scrub)
      return yield* new BadUsage({ message: "--scrub-rate needs --scrub." })
    return {
      _tag: "Check",
      json: values.json,
      repair: values.repair,
      scrubBytesPerSecond: values.scrub ? Number(rate) * megabyte : undefined,
    }
  })
