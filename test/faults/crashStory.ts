import { sleep } from "../support/processes.ts"
import { settle } from "./audit.ts"
import { insidesOfServers } from "./insides.ts"
import { startLoad } from "./load.ts"
import { startPlane } from "./plane.ts"
import { makeRandom } from "./random.ts"

export interface CrashReport {
  readonly seed: number
  readonly kills: number
  /** What clients did, and how requests ended that did not do it, with how often. */
  readonly done: Readonly<Record<string, number>>
  readonly errors: Readonly<Record<string, number>>
  readonly artifacts: number
  readonly events: number
  /** Milliseconds from kill -9 until the next node was ready. */
  readonly recovery: { readonly p50: number; readonly max: number }
  /** Sentences about what did not hold; empty when all did. */
  readonly faults: ReadonlyArray<string>
}

/** Kills the node at random moments of a mixed load, lets the sweeps work, and compares rows, blobs, counters and events. */
export const crashStory = async (kills: number, seed = Date.now() % 1_000_000): Promise<CrashReport> => {
  const plane = await startPlane({
    SWEEP_SECONDS: "1",
    ABANDONED_AFTER_SECONDS: "15",
    ORPHAN_SWEEP_SECONDS: "3",
    ORPHAN_AGE_SECONDS: "5",
    ORPHAN_CONFIRM_SECONDS: "3",
  })
  try {
    const target = () => ({ baseUrl: plane.node().baseUrl, adminKey: plane.adminKey })
    const random = makeRandom(seed)
    const load = await startLoad({ target, seed })
    const recoveries: Array<number> = []
    const succeeded = () => load.chronicle.successes.length
    // Some work is done between two kills, however slow the machine.
    const worked = async (until: number) => {
      for (const late = Date.now() + 10_000; succeeded() < until && Date.now() < late;) await sleep(20)
    }
    for (let kill = 0; kill < kills; kill++) {
      const enough = succeeded() + 15
      await Promise.race([sleep(random.between(200, 1500)), load.working])
      await Promise.race([worked(enough), load.working])
      await plane.node().kill9()
      const began = Date.now()
      await plane.start()
      recoveries.push(Date.now() - began)
    }
    await sleep(2000)
    await load.stop()
    const insides = insidesOfServers({
      postgresUrl: plane.postgres.url,
      redisUrl: plane.redis.url,
      streamKey: plane.streamKey,
      blobs: plane.blobs,
    })
    const found = await settle(target(), insides, load.models)
    recoveries.sort((a, b) => a - b)
    return {
      seed,
      kills,
      done: Object.fromEntries(load.chronicle.done),
      errors: Object.fromEntries(load.chronicle.errors),
      artifacts: found.artifacts,
      events: found.events,
      recovery: { p50: recoveries[recoveries.length >> 1] ?? 0, max: recoveries.at(-1) ?? 0 },
      faults: [...load.chronicle.faults, ...found.sentences],
    }
  } finally {
    await plane.dispose()
  }
}
