import { randomBytes } from "node:crypto"
import { sleep } from "../../support/processes.ts"
import { type Answer, call, publish, type Tenant } from "../plane.ts"
import { artifactsOf, type Scene } from "./scene.ts"

/** How long a request of the honest tenant may take, in milliseconds: far more than it does, on a slow machine too. */
const answeredWithin = 10_000

export interface Served {
  readonly requests: number
  readonly slowestMillis: number
  /** A line for each request that was not answered as it should be, or not in time. */
  readonly wrong: ReadonlyArray<string>
}

/** Publishes, reads and lists as one tenant, one request after the other, until it is stopped. */
export const workHonestly = (scene: Scene, tenant: Tenant): { readonly stop: () => Promise<Served> } => {
  const { baseUrl } = scene.plane.node()
  const artifacts = baseUrl + artifactsOf(tenant)
  const wrong: Array<string> = []
  let requests = 0
  let slowestMillis = 0
  let going = true

  const ask = async (what: string, wanted: number, request: (signal: AbortSignal) => Promise<Answer>) => {
    const began = performance.now()
    const answer = await request(AbortSignal.timeout(answeredWithin)).catch((error: unknown) => String(error))
    const millis = Math.round(performance.now() - began)
    requests++
    slowestMillis = Math.max(slowestMillis, millis)
    if (typeof answer !== "string" && answer.status === wanted) return answer.body
    wrong.push(`${what}: ${typeof answer === "string" ? answer : answer.status} after ${millis} ms`)
    return undefined
  }

  const turn = async () => {
    const bytes = randomBytes(30_000)
    const made = await ask("publish", 201, (signal) => publish(baseUrl, tenant, { name: "mine", bytes, signal }))
    if (made !== undefined) {
      await ask("metadata", 200, (signal) => call(`${artifacts}/${made.id}`, tenant.key, { signal }))
      await ask("content", 200, (signal) => call(`${artifacts}/${made.id}/content`, tenant.key, { signal }))
    }
    await ask("list", 200, (signal) => call(`${artifacts}?limit=5`, tenant.key, { signal }))
    await sleep(50)
  }
  const work = (async () => {
    while (going) await turn()
  })()
  return {
    stop: async () => {
      going = false
      await work
      return { requests, slowestMillis, wrong }
    },
  }
}
