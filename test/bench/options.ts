import { resolve } from "node:path"
import { parseArgs } from "node:util"

export interface Options {
  /** Everything once and small, for errors alone. */
  readonly quick: boolean
  readonly rounds: number
  /** Of one contender in one round. */
  readonly seconds: number
  /** Where the JSON and the chart go. */
  readonly out: string
  readonly pods: ReadonlyArray<number>
  /** The parts to run, by name; empty: all. */
  readonly only: ReadonlyArray<string>
  /** Only groups whose title holds this; empty: all. */
  readonly match: string
  /** Write a CPU profile of the shared production node beside the results. */
  readonly profile: boolean
  /** Mixed requests after which memory, files and connections must be what they were, on each stack. */
  readonly soak: number
  readonly rgw: boolean
  readonly peers: boolean
}

export const usage = `npm run bench -- [options]
  --quick          everything once and small, for errors alone
  --out DIR        where results.json and chart.svg go (.data/bench)
  --rounds N       rounds of each comparison (3)
  --seconds S      length of one turn in a round (0.4)
  --pods 1,2,4     the numbers of pods to compare
  --only A,B       parts: node publish read events list pods s3 tenants soak small
  --match TEXT     of these only the groups whose title holds the text, such as "publish 4 KiB, 16"
  --profile        write a CPU profile of the production node, warm-up included, into DIR/profile, and print shares
  --soak N         requests of the long life, on each stack (40000)
  --rgw, --no-rgw  with or without a real S3 server (with; quick: without)
  --no-peers       without servers from npm (quick: without)`

export const readOptions = (args: ReadonlyArray<string>): Options => {
  const { values } = parseArgs({
    args: [...args],
    allowNegative: true,
    options: {
      quick: { type: "boolean", default: false },
      out: { type: "string", default: ".data/bench" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      pods: { type: "string" },
      only: { type: "string", default: "" },
      match: { type: "string", default: "" },
      profile: { type: "boolean", default: false },
      soak: { type: "string" },
      rgw: { type: "boolean" },
      peers: { type: "boolean" },
    },
  })
  const { quick } = values
  const positive = (name: string, text: string | undefined, fallback: number): number => {
    const value = Number(text ?? fallback)
    if (!(value > 0)) throw new Error(`--${name} must be a number above 0`)
    return value
  }
  return {
    quick,
    rounds: Math.ceil(positive("rounds", values.rounds, quick ? 1 : 3)),
    seconds: positive("seconds", values.seconds, quick ? 0.15 : 0.4),
    out: resolve(values.out),
    pods: (values.pods ?? (quick ? "2" : "1,2,4"))
      .split(",")
      .map((pods) => positive("pods", pods, 1))
      .toSorted((a, b) => a - b),
    only: values.only.split(",").filter(Boolean),
    match: values.match,
    profile: values.profile,
    soak: Math.ceil(positive("soak", values.soak, quick ? 10_000 : 40_000)),
    rgw: values.rgw ?? !quick,
    peers: values.peers ?? !quick,
  }
}
