import { settle } from "../faults/audit.ts"
import { startLoad } from "../faults/load.ts"
import type { BalancerKind } from "./support/balancer.ts"
import { makePlan, type Measure, wreak } from "./support/chaos.ts"
import { insidesOf, startCluster } from "./support/cluster.ts"
import { watchEventLag } from "./support/lag.ts"
import { print, printFailure, recoveryOf, type Recovery } from "./support/report.ts"
import type { StoreKind } from "./support/store.ts"

export interface StoryReport {
  readonly seed: number
  readonly published: number
  readonly kills: number
  readonly events: number
  readonly settledAfterMs: number
  readonly recovery: Recovery
  /** Sentences about what did not hold; empty when all did. */
  readonly faults: ReadonlyArray<string>
}

/** Sweeps that come soon, so that everything must agree within a minute of the last deed. */
const impatient = {
  SWEEP_SECONDS: "1",
  ABANDONED_AFTER_SECONDS: "15",
  ORPHAN_SWEEP_SECONDS: "3",
  ORPHAN_AGE_SECONDS: "20",
  ORPHAN_CONFIRM_SECONDS: "5",
  DRAIN_SECONDS: "10",
}

export const fullMeasure: Measure = {
  ms: 180_000,
  pauseMs: 15_000,
  postgresMs: 10_000,
  killEvery: [5000, 10_000],
  terminateEvery: 25_000,
  flushAt: 0.75,
}

export const shortMeasure: Measure = {
  ms: 16_000,
  pauseMs: 3000,
  postgresMs: 2000,
  killEvery: [4000, 6000],
  terminateEvery: 12_000,
  flushAt: 1,
}

/**
 * Mixed load through the balancer while pods are killed, stopped and paused, and while Redis and Postgres go and come
 * back. Afterwards everything the clients were told must stand, nothing else may, and all views must agree.
 */
export const podsStory = async (options: {
  readonly measure: Measure
  readonly pods?: number
  readonly seed?: number | undefined
  readonly store?: StoreKind | undefined
  readonly balancer?: BalancerKind | undefined
  readonly env?: Readonly<Record<string, string>>
  /** Between two things a client does, in milliseconds. */
  readonly pause?: number
}): Promise<StoryReport> => {
  const seed = options.seed ?? Date.now() % 1_000_000
  const pods = options.pods ?? 3
  const { store, balancer } = options
  const cluster = await startCluster({ pods, store, balancer, env: { ...impatient, ...options.env } })
  const title = `${pods} pods behind ${cluster.balancer.description} over ${cluster.store.description}, ${options.measure.ms / 1000} s, seed ${seed}`
  console.log(title)
  try {
    const target = () => cluster
    const load = await startLoad({ target, seed, pause: options.pause ?? 30 })
    const lag = watchEventLag(cluster.postgres.url)
    const wreaking = wreak(cluster, makePlan(seed, pods, options.measure), seed)
    const chaos = await Promise.race([wreaking, load.working.then(() => wreaking)])
    await load.stop()
    const found = await settle(cluster, insidesOf(cluster), load.models)
    await lag.stop()
    const recovery = recoveryOf(load.chronicle, chaos, lag.samples)
    const faults = [...load.chronicle.faults, ...chaos.faults, ...found.sentences]
    print(title, load.chronicle, chaos, recovery, found)
    if (faults.length > 0) printFailure(cluster, faults)
    return {
      seed,
      published: load.models.reduce((sum, { facts }) => sum + facts.size, 0),
      kills: chaos.kills.length,
      events: found.events,
      settledAfterMs: found.settledAfterMs,
      recovery,
      faults,
    }
  } catch (error) {
    printFailure(cluster, [String(error)])
    throw error
  } finally {
    await cluster.dispose()
  }
}
