import { Redis } from "ioredis"
import { sleep } from "../../support/processes.ts"
import { makeRandom } from "../../faults/random.ts"
import type { Cluster } from "./cluster.ts"
import type { Pod } from "./pod.ts"

/** What is done to a cluster, and when; `at` in milliseconds from the start, `forMs` how long it lasts. */
export type Deed = { readonly at: number } & (
  | { readonly what: "kill -9" | "SIGTERM"; readonly pod: number }
  | { readonly what: "pause"; readonly pod: number; readonly forMs: number }
  | { readonly what: "Postgres away"; readonly forMs: number }
  | { readonly what: "Redis restarted" | "Redis flushed" }
)

export interface Measure {
  readonly ms: number
  /** How long a pod is paused, and how long Postgres is away. */
  readonly pauseMs: number
  readonly postgresMs: number
  /** The least and the most time between two kills. */
  readonly killEvery: readonly [number, number]
  readonly terminateEvery: number
  /**
   * The share of the time after which Redis is flushed. A pod that dies between its commit and its counters leaves a
   * reservation behind for up to a minute; counters that are made anew have none, so a flush at the end saves that wait.
   */
  readonly flushAt: number
}

/** The same seed plans the same deeds. Each lasting one is over before the time is. */
export const makePlan = (seed: number, pods: number, measure: Measure): ReadonlyArray<Deed> => {
  const random = makeRandom(seed)
  const { flushAt, killEvery, ms, pauseMs, postgresMs, terminateEvery } = measure
  const around = (share: number) => Math.round(ms * share + random.between(-ms * 0.03, ms * 0.03))
  const pod = () => random.below(pods)
  const deeds: Array<Deed> = [
    { at: around(0.15), what: "Redis restarted" },
    { at: around(0.3), what: "pause", pod: pod(), forMs: pauseMs },
    { at: around(0.5), what: "Postgres away", forMs: postgresMs },
    { at: around(flushAt), what: "Redis flushed" },
  ]
  for (let at = random.between(...killEvery) / 2; at < ms * 0.95; at += random.between(...killEvery))
    deeds.push({ at: Math.round(at), what: "kill -9", pod: pod() })
  for (let at = terminateEvery / 2; at < ms * 0.95; at += terminateEvery)
    deeds.push({ at: Math.round(at), what: "SIGTERM", pod: pod() })
  return deeds.sort((a, b) => a.at - b.at)
}

export interface Kill {
  readonly at: number
  readonly pod: string
  /** Milliseconds until the killed pod served again. */
  servingAfter: number | undefined
}

export interface Chaos {
  readonly kills: ReadonlyArray<Kill>
  /** What was done, in words and in order, with the seconds at which it was. */
  readonly diary: ReadonlyArray<string>
  /** `[from, until]` by the clock: a dependency was away, or just back. */
  readonly outages: ReadonlyArray<readonly [number, number]>
  /** Of promises that pods broke. */
  readonly faults: ReadonlyArray<string>
}

/** Does to the cluster what the plan says; settles once all pods serve again. */
export const wreak = async (cluster: Cluster, plan: ReadonlyArray<Deed>, seed: number): Promise<Chaos> => {
  const random = makeRandom(seed + 1)
  const began = Date.now()
  const kills: Array<Kill> = []
  const diary: Array<string> = []
  const outages: Array<readonly [number, number]> = []
  const faults: Array<string> = []
  const write = (what: string) => void diary.push(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  ${what}`)

  /** The pod of the plan, or another when that one does not serve just now. */
  const chosen = (index: number): Pod | undefined => {
    const planned = cluster.pods[index]
    return planned?.serves() === true ? planned : random.pick(cluster.pods.filter((pod) => pod.serves()))
  }
  /** Pauses come seldom: one waits for a pod that it can be done to. */
  const awaited = async (index: number): Promise<Pod | undefined> => {
    const until = Date.now() + 30_000
    for (;;) {
      const pod = chosen(index)
      if (pod !== undefined || Date.now() > until) return pod
      await sleep(100)
    }
  }
  const outage = async (forMs: number, from: () => Promise<void>, until: () => Promise<void>) => {
    const start = Date.now()
    await from()
    await sleep(forMs)
    await until()
    outages.push([start, Date.now() + 2000])
  }

  const act = async (deed: Deed): Promise<void> => {
    if ("pod" in deed) {
      const pod = deed.what === "pause" ? await awaited(deed.pod) : chosen(deed.pod)
      if (pod === undefined) return write(`${deed.what}: no pod serves`)
      write(`${deed.what} ${pod.name}`)
      switch (deed.what) {
        case "kill -9": {
          const kill: Kill = { at: Date.now(), pod: pod.name, servingAfter: undefined }
          kills.push(kill)
          await pod.kill9()
          await pod.start()
          kill.servingAfter = Date.now() - kill.at
          return
        }
        case "SIGTERM": {
          const code = await pod.stop()
          write(`${pod.name} ended with ${code}`)
          if (code !== 0) faults.push(`${pod.name} ended with ${code} after SIGTERM`)
          return pod.start()
        }
        case "pause":
          pod.pause()
          await sleep(deed.forMs)
          pod.resume()
          return write(`resume ${pod.name}`)
      }
    }
    write(deed.what)
    switch (deed.what) {
      case "Postgres away":
        await outage(deed.forMs, cluster.postgres.stop, cluster.postgres.start)
        return write("Postgres back")
      case "Redis restarted":
        return outage(0, cluster.redis.stop, cluster.redis.start)
      case "Redis flushed": {
        const redis = new Redis(cluster.redis.url)
        await redis.flushall().finally(() => redis.disconnect())
      }
    }
  }

  const acting: Array<Promise<void>> = []
  for (const deed of plan) {
    await sleep(Math.max(0, began + deed.at - Date.now()))
    acting.push(act(deed))
  }
  await Promise.all(acting)
  return { kills, diary, outages, faults }
}
