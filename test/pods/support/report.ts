import type { Settled } from "../../faults/audit.ts"
import type { Chronicle } from "../../faults/model.ts"
import type { Chaos } from "./chaos.ts"
import type { Cluster } from "./cluster.ts"
import type { LagSample } from "./lag.ts"

/** Half of them are not above `p50`; in milliseconds. */
export interface Spread {
  readonly count: number
  readonly p50: number
  readonly max: number
}

const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = values.toSorted((a, b) => a - b)
  return { count: sorted.length, p50: sorted[sorted.length >> 1] ?? 0, max: sorted.at(-1) ?? 0 }
}

export interface Recovery {
  /** From a kill to the end of the first request that was begun after it and succeeded, through the balancer. */
  readonly firstSuccess: Spread
  /** From a kill to the killed pod serving again. */
  readonly podServing: Spread
  /** The longest time without the end of a successful request. */
  readonly silence: number
  /** The oldest an event was that was not yet in the stream. */
  readonly eventLag: number
}

/** All of it apart from the times at which Postgres or Redis were away. */
export const recoveryOf = (chronicle: Chronicle, chaos: Chaos, lag: ReadonlyArray<LagSample>): Recovery => {
  const quiet = (from: number, until: number) => !chaos.outages.some(([start, end]) => from < end && until > start)
  const kills = chaos.kills.filter(({ at, servingAfter }) => quiet(at, at + (servingAfter ?? 0)))
  const firstSuccesses = kills.flatMap(({ at }) => {
    const first = chronicle.successes.find(([begun]) => begun >= at)
    return first === undefined ? [] : [first[1] - at]
  })
  const ends = chronicle.successes.map(([, ended]) => ended)
  const gaps = ends.flatMap((end, index) => {
    const before = ends[index - 1]
    return before !== undefined && quiet(before, end) ? [end - before] : []
  })
  const lags = lag.flatMap(([at, seconds]) => (quiet(at - seconds * 1000, at) ? [seconds * 1000] : []))
  return {
    firstSuccess: spread(firstSuccesses),
    podServing: spread(kills.flatMap(({ servingAfter }) => servingAfter ?? [])),
    silence: spread(gaps).max,
    eventLag: Math.round(spread(lags).max),
  }
}

const inOrder = (counts: ReadonlyMap<string, number>) => Object.fromEntries([...counts].sort(([, a], [, b]) => b - a))

const secondsOf = (ms: number) => `${(ms / 1000).toFixed(2)} s`

/** For people, on the console. */
export const print = (title: string, chronicle: Chronicle, chaos: Chaos, recovery: Recovery, found: Settled): void => {
  console.log(`\n${title}`)
  console.log(chaos.diary.join("\n"))
  console.table({
    "kill -9 to the next success": {
      count: recovery.firstSuccess.count,
      p50: secondsOf(recovery.firstSuccess.p50),
      max: secondsOf(recovery.firstSuccess.max),
    },
    "kill -9 to the pod serving again": {
      count: recovery.podServing.count,
      p50: secondsOf(recovery.podServing.p50),
      max: secondsOf(recovery.podServing.max),
    },
    "longest time without a success": { max: secondsOf(recovery.silence) },
    "oldest event on its way": { max: secondsOf(recovery.eventLag) },
    "all of it in agreement after": { max: secondsOf(found.settledAfterMs) },
    "artifacts checked": { count: found.artifacts },
    "objects checked": { count: found.blobs },
    "events checked": { count: found.events },
  })
  if (found.lastDoubts.length > 0) console.log(`The last to agree: ${found.lastDoubts.slice(0, 5).join("; ")}`)
  console.log("What clients did:")
  console.table(inOrder(chronicle.done))
  console.log("Requests that ended otherwise:")
  console.table(inOrder(chronicle.errors))
}

/** What is needed to look into a failure. */
export const printFailure = (cluster: Cluster, faults: ReadonlyArray<string>): void => {
  console.log(`\nNot as promised:\n${faults.map((fault) => `  ${fault}`).join("\n")}`)
  for (const pod of cluster.pods) console.log(`\nThe last words of ${pod.name}:\n${pod.logs().slice(-6000)}`)
  console.log(`\nThe balancer's:\n${cluster.balancer.logs().slice(-2000)}`)
}
