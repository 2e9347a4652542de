import { Redis } from "ioredis"
import { settle } from "../faults/audit.ts"
import { startLoad } from "../faults/load.ts"
import { makeRandom } from "../faults/random.ts"
import { sleep } from "../support/processes.ts"
import { insidesOf, startCluster } from "./support/cluster.ts"
import { printFailure } from "./support/report.ts"

export interface RelaysReport {
  readonly seed: number
  readonly pauses: number
  readonly events: number
  /** Events that came into the stream while the first pod, and while the second, was paused. */
  readonly meanwhile: ReadonlyArray<number>
  readonly faults: ReadonlyArray<string>
}

/**
 * Two pods that are no cluster, so that each runs a relay of its own all the time. They are paused and woken by turns, at
 * whatever they are doing; once the stream is flushed, and both refill it.
 */
export const twoRelays = async (
  options: { readonly seed?: number; readonly pauses?: number } = {},
): Promise<RelaysReport> => {
  const seed = options.seed ?? Date.now() % 1_000_000
  const pauses = options.pauses ?? 40
  const env = {
    SWEEP_SECONDS: "1",
    ABANDONED_AFTER_SECONDS: "15",
    ORPHAN_SWEEP_SECONDS: "3",
    ORPHAN_AGE_SECONDS: "20",
    ORPHAN_CONFIRM_SECONDS: "5",
  }
  const cluster = await startCluster({ pods: 2, together: false, env })
  const redis = new Redis(cluster.redis.url)
  try {
    console.log(`Two relays at once, seed ${seed}`)
    const random = makeRandom(seed)
    const load = await startLoad({ target: () => cluster, seed, clients: 8, pause: 20 })
    await sleep(1000)
    const length = () => redis.xlen(cluster.streamKey)
    const meanwhile: Array<number> = []
    for (const pod of cluster.pods) {
      const before = await length()
      pod.pause()
      await sleep(3000)
      meanwhile.push((await length()) - before)
      pod.resume()
      await sleep(500)
    }
    for (let pause = 0; pause < pauses; pause++) {
      const pod = cluster.pods[pause % 2]
      pod?.pause()
      await sleep(random.between(20, 400))
      pod?.resume()
      await sleep(random.between(10, 200))
      if (pause === pauses >> 1) await redis.flushall()
    }
    await load.stop()
    const found = await settle(cluster, insidesOf(cluster), load.models)
    const faults = [...load.chronicle.faults, ...found.sentences]
    if (faults.length > 0) printFailure(cluster, faults)
    return { seed, pauses, events: found.events, meanwhile, faults }
  } finally {
    redis.disconnect()
    await cluster.dispose()
  }
}
