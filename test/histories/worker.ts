import { type Client, persistently, takeClaim, type Upload, url } from "../faults/clients.ts"
import { inWords, type Model } from "../faults/model.ts"
import { call } from "../faults/plane.ts"
import type { End } from "./plan.ts"

/** When the end of a right was acknowledged, in milliseconds; absent: never. */
export interface Ending {
  at?: number
}

/** What an upload needs at its commit. */
export interface Right {
  readonly claim: Ending
  readonly key: Ending
}

/** One try to change a project's limit. */
export interface LimitChange {
  readonly bytes: number
  readonly begun: number
  /** Absent: nobody knows whether and when it took place. */
  answered?: number
}

/** What all clients of one project know together. */
export interface World {
  readonly model: Model
  readonly limits: Array<LimitChange>
  /** By the upload's name. */
  readonly rights: Map<string, Right>
}

/** A client with an API key of its own. Its model is the project's, read with that key. */
export interface Worker extends Client {
  readonly index: number
  readonly world: World
  readonly edit: boolean
  readonly tight: () => boolean
  model: Model
  keyId: string
  right: Right
  uploads: number
  /** Events read so far, in their order, and the position from which to go on. */
  readonly events: { after: number; readonly seen: Array<string> }
}

const admin = (worker: Worker, path: string) =>
  `${worker.target().baseUrl}/v1/admin/projects/${worker.world.model.tenant.project}${path}`

/** Gives the worker a new API key of the same principal. Returns whether it has one. */
export const issueKey = async (worker: Worker): Promise<boolean> => {
  const permissions = ["mobius.project.view", "mobius.work.execute", ...(worker.edit ? ["mobius.project.edit"] : [])]
  const principal = { kind: "agent", id: worker.claim.owner }
  const answer = await persistently(worker, "key", () =>
    call(admin(worker, "/api-keys"), worker.target().adminKey, {
      method: "POST",
      body: JSON.stringify({ principal, permissions }),
    }),
  )
  if (answer === undefined) return false
  if (answer.status !== 201) {
    worker.chronicle.fault(`a new key was answered ${inWords(answer)}`)
    return false
  }
  const { model } = worker.world
  worker.model = { ...model, tenant: { ...model.tenant, key: answer.body.key } }
  worker.keyId = answer.body.id
  return true
}

/** Takes the job for the next attempt. Returns whether that was acknowledged. */
export const takeNext = async (worker: Worker): Promise<boolean> => {
  const attempt = worker.claim.attempt + 1
  await takeClaim(worker, { ...worker.claim, attempt, session: `session-${attempt}` })
  if (worker.claim.attempt !== attempt) return false
  worker.right = { claim: {}, key: worker.right.key }
  return true
}

/** Ends the right under which the worker publishes. Returns whether that was acknowledged. */
export const endRight = async (worker: Worker, how: End): Promise<boolean> => {
  const { claim, key } = worker.right
  const over = (ending: Ending) => {
    ending.at = Date.now()
    return true
  }
  if (how === "takeOver") return (await takeNext(worker)) && over(claim)
  const begun = Date.now()
  if (how === "release") {
    const answer = await persistently(worker, "release", () =>
      call(url(worker, `/claims/${worker.claim.jobId}`), worker.model.tenant.key, {
        method: "DELETE",
        headers: { "x-mobius-lease-token": worker.token },
      }),
    )
    if (answer === undefined) return false
    // Lost: an earlier try has released it, and its answer did not come.
    if (answer.status === 204 || answer.body?.error?.code === "lease_lost") {
      worker.chronicle.succeeded("release", begun)
      return over(claim)
    }
    worker.chronicle.fault(`a release was answered ${inWords(answer)}`)
    return false
  }
  const former = worker.keyId
  if (!(await issueKey(worker))) return false
  worker.right = { claim, key: {} }
  const answer = await persistently(worker, "revoke", () =>
    call(admin(worker, `/api-keys/${former}`), worker.target().adminKey, { method: "DELETE" }),
  )
  if (answer === undefined) return false
  if (answer.status === 204 || answer.status === 404) {
    worker.chronicle.succeeded("revoke", begun)
    return over(key)
  }
  worker.chronicle.fault(`a revocation was answered ${inWords(answer)}`)
  return false
}

/** Sets the project's limit. Each try is remembered, for one whose answer was lost may have done it. */
export const setLimit = async (worker: Worker, bytes: number): Promise<void> => {
  const answer = await persistently(worker, "quota", async () => {
    const change: LimitChange = { bytes, begun: Date.now() }
    worker.world.limits.push(change)
    const answer = await call(admin(worker, ""), worker.target().adminKey, {
      method: "PUT",
      body: JSON.stringify({ quota_bytes: bytes }),
    })
    if (answer.status < 300) {
      change.answered = Date.now()
      worker.chronicle.succeeded("quota", change.begun)
    }
    return answer
  })
  if (answer !== undefined && answer.status >= 300)
    worker.chronicle.fault(`a new limit was answered ${inWords(answer)}`)
}

/** The worker's next file, under the right that it has now. */
export const draftUpload = (
  worker: Worker,
  file: Pick<Upload, "size"> & Partial<Pick<Upload, "chunked" | "noted">> & { readonly keyed?: boolean },
): Upload => {
  const name = `files/${worker.index}-${++worker.uploads}.bin`
  worker.world.rights.set(name, worker.right)
  return {
    name,
    size: file.size,
    chunked: file.chunked ?? true,
    noted: file.noted ?? false,
    key: file.keyed === true ? `key-of-${name}` : undefined,
    claim: worker.claim,
    token: worker.token,
    begun: Date.now(),
  }
}
