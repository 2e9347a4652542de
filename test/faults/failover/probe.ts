import { randomUUID } from "node:crypto"
import { sleep } from "../../support/processes.ts"
import { contentOf, makeModel, type Model } from "../model.ts"
import { makeTenant, type Plane, publish, sha256 } from "../plane.ts"

/** One publish of the probe, by Date.now(). */
export interface Probed {
  readonly begun: number
  readonly ended: number
  readonly acknowledged: boolean
}

export interface Probe {
  readonly model: Model
  /** No new ones; those on their way are still heard. */
  stop(): Promise<ReadonlyArray<Probed>>
}

const size = 2000

/**
 * Publishes a small file each `everyMs`, whether or not those before were answered: what a caller sees who comes at any
 * moment.
 */
export const startProbe = async (plane: Plane, everyMs = 100): Promise<Probe> => {
  const model = makeModel(await makeTenant(plane.node().baseUrl, plane.adminKey, { name: "probe" }))
  const claim = {
    jobId: "job-1",
    runId: "run-1",
    stepId: "step-1",
    session: "session-1",
    attempt: 1,
    owner: "worker",
    visibility: "shared",
  } as const
  const one = async (): Promise<Probed> => {
    const begun = Date.now()
    const name = randomUUID()
    model.doubtful.add(name)
    const bytes = contentOf(name, size)
    const answer = await publish(plane.node().baseUrl, model.tenant, { name, bytes }).catch(() => undefined)
    const ended = Date.now()
    if (answer?.status !== 201) return { begun, ended, acknowledged: false }
    const { id } = answer.body
    model.facts.set(id, { id, name, size, sha256: sha256(bytes), claim, begun, answered: ended })
    return { begun, ended, acknowledged: true }
  }
  const all: Array<Promise<Probed>> = []
  let stopped = false
  const probing = (async () => {
    for (; !stopped; await sleep(everyMs)) all.push(one())
  })()
  return {
    model,
    stop: async () => {
      stopped = true
      await probing
      return Promise.all(all)
    },
  }
}
