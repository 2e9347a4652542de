import { randomUUID } from "node:crypto"
import { type Answer, call, type Plane, publish, type Tenant } from "../faults/plane.ts"
import { sleep } from "../support/processes.ts"

/** Opens an event stream, and leaves it once something came. */
const firstFrame = async (url: string, key: string): Promise<Answer> => {
  const leave = new AbortController()
  const headers = { authorization: `Bearer ${key}`, accept: "text/event-stream" }
  const response = await fetch(url, { headers, signal: AbortSignal.any([leave.signal, AbortSignal.timeout(30_000)]) })
  const first = await response.body?.getReader().read()
  leave.abort()
  return { status: first?.done === false ? response.status : 500, body: undefined }
}

/** Calls of every kind, over and over; each must be answered with 2xx. */
export const startCalls = (plane: Plane, tenant: Tenant) => {
  const { baseUrl } = plane.node()
  const project = `${baseUrl}/v1/projects/${tenant.project}`
  const admin = `${baseUrl}/v1/admin`
  const lease = { "x-mobius-lease-token": tenant.token }
  const bytes = new Uint8Array(Buffer.from("some bytes"))
  const done = new Map<string, number>()
  const refused = new Map<string, number>()
  let stopped = false

  const must = async (what: string, ask: () => Promise<Answer>): Promise<any> => {
    const answer = await ask()
    if (answer.status < 300) done.set(what, (done.get(what) ?? 0) + 1)
    else {
      const kind = `${what}: ${answer.status} ${answer.body?.error?.code}`
      refused.set(kind, (refused.get(kind) ?? 0) + 1)
    }
    return answer.body ?? {}
  }
  const post = (body: unknown) => ({ method: "POST", body: JSON.stringify(body) })
  const put = (body: unknown) => ({ method: "PUT", body: JSON.stringify(body) })

  const artifacts = async () => {
    const name = `files/${randomUUID()}.txt`
    const { id } = await must("publish", () => publish(baseUrl, tenant, { name, bytes, key: name }))
    await must("replay", () => publish(baseUrl, tenant, { name, bytes, key: name }))
    await must("metadata", () => call(`${project}/artifacts/${id}`, tenant.key))
    await must("read", () => call(`${project}/artifacts/${id}/content`, tenant.key))
    await must("sign", () => call(`${project}/artifacts/${id}/signed-url`, tenant.key, { method: "POST" }))
    await must("delete", () => call(`${project}/artifacts/${id}`, tenant.key, { method: "DELETE" }))
  }
  const lists = async () => {
    await must("list", () => call(`${project}/artifacts?limit=5`, tenant.key))
    await must("list of a run", () => call(`${project}/artifacts?run_id=${tenant.runId}&limit=5`, tenant.key))
    await must("list of tombstones", () => call(`${project}/artifacts?state=deleted&limit=5`, tenant.key))
    await must("quota", () => call(`${project}/artifacts/quota`, tenant.key))
    await must("events", () => firstFrame(`${project}/events?after=0`, tenant.key))
    await must("all events", () => call(`${admin}/events?limit=5`, plane.adminKey))
  }
  const claims = async () => {
    const job = `job-${randomUUID()}`
    for (const attempt of [1, 2, 2]) {
      const claim = {
        worker_session_id: "session-1",
        attempt,
        owner: { kind: "agent", id: "worker" },
        lease_seconds: 300,
      }
      const taken = await must("claim", () => call(`${project}/claims/${job}`, plane.adminKey, put(claim)))
      const headers = { "x-mobius-lease-token": taken.lease_token }
      await must("heartbeat", () => call(`${project}/claims/${job}/heartbeat`, tenant.key, { method: "POST", headers }))
      if (attempt === 2 && taken.lease_token !== undefined)
        await must("heartbeat of a long job", () =>
          call(`${project}/claims/${tenant.jobId}/heartbeat`, tenant.key, { method: "POST", headers: lease }),
        )
    }
    await must("release", () => call(`${project}/claims/${job}`, plane.adminKey, { method: "DELETE" }))
  }
  const administration = async () => {
    const own = `${admin}/projects/${tenant.project}`
    await must("project", () => call(own, plane.adminKey, put({})))
    await must("project read", () => call(own, plane.adminKey))
    const issue = { principal: { kind: "agent", id: "worker" }, permissions: ["mobius.project.view"] }
    const { id, key } = await must("key", () => call(`${own}/api-keys`, plane.adminKey, post(issue)))
    await must("a new key's first call", () => call(`${project}/artifacts?limit=1`, key))
    await must("keys", () => call(`${own}/api-keys`, plane.adminKey))
    await must("revocation", () => call(`${own}/api-keys/${id}`, plane.adminKey, { method: "DELETE" }))
  }
  const forever = async (turn: () => Promise<void>) => {
    while (!stopped) {
      await turn()
      await sleep(10)
    }
  }
  const working = Promise.all([artifacts, artifacts, lists, claims, claims, administration].map(forever))
  return {
    done,
    refused,
    stop: async () => {
      stopped = true
      await working
    },
  }
}
