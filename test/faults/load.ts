import { sleep } from "../support/processes.ts"
import {
  type Client,
  deleteOne,
  heartbeat,
  publishOnce,
  publishWrong,
  readOne,
  replayLast,
  supersede,
  takeClaim,
  type Target,
} from "./clients.ts"
import { Chronicle, makeModel, type Model } from "./model.ts"
import { makeTenant } from "./plane.ts"
import { makeRandom } from "./random.ts"

/** What clients do, and how often of 40 times. */
const mix: ReadonlyArray<readonly [number, (client: Client) => Promise<void>]> = [
  [19, publishOnce],
  [9, readOne],
  [5, deleteOne],
  [2, replayLast],
  [2, heartbeat],
  [2, publishWrong],
  [1, supersede],
]

export interface Load {
  readonly models: ReadonlyArray<Model>
  readonly chronicle: Chronicle
  /** Settles when all clients have stopped; rejects when one met what no client expects. */
  readonly working: Promise<void>
  /** No new requests; those on their way are still heard. */
  stop(): Promise<void>
}

/** Clients of several projects at their mixed work, each with a job, a run and an owner of its own. */
export const startLoad = async (options: {
  readonly target: () => Target
  readonly seed: number
  readonly projects?: number
  readonly clients?: number
  /** Between two things a client does, in milliseconds. */
  readonly pause?: number
}): Promise<Load> => {
  const { baseUrl, adminKey } = options.target()
  const tenants = await Promise.all(Array.from({ length: options.projects ?? 3 }, () => makeTenant(baseUrl, adminKey)))
  const models = tenants.map(makeModel)
  const chronicle = new Chronicle()
  let stopped = false

  const run = async (index: number) => {
    const model = models[index % models.length]
    if (model === undefined) return
    const random = makeRandom(options.seed + index)
    const claim = {
      jobId: `job-of-${index}`,
      runId: `run-${index % 5}`,
      stepId: `step-${index}`,
      session: "session-1",
      attempt: 1,
      owner: `agent-${index}`,
      visibility: index % 2 === 0 ? ("shared" as const) : ("private" as const),
    }
    const client: Client = {
      target: options.target,
      model,
      chronicle,
      random,
      stopped: () => stopped,
      claim,
      token: "",
      last: undefined,
    }
    await takeClaim(client, claim)
    while (!stopped) {
      let dice = random.below(40)
      const chosen = mix.find(([share]) => (dice -= share) < 0)
      await chosen?.[1](client)
      await sleep(options.pause ?? 5)
    }
  }
  const working = Promise.all(Array.from({ length: options.clients ?? 12 }, (_, index) => run(index))).then(() => {})
  // Whoever stops the load hears of it; until then it is no unhandled rejection.
  working.catch(() => {})
  return {
    models,
    chronicle,
    working,
    stop: () => {
      stopped = true
      return working
    },
  }
}
