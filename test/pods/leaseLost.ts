import { randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import pg from "pg"
import { type Answer, call, makeTenant, publish } from "../faults/plane.ts"
import { beginUpload } from "../faults/transfers.ts"
import type { Cluster } from "./support/cluster.ts"

const MiB = 1024 * 1024

export interface LeaseLostReport {
  /** To the upload that was under way when a later attempt took the job. */
  readonly late: Answer
  /** To the later attempt's own upload. */
  readonly next: Answer
  /** Whatever is left of the first; empty when there is no trace. */
  readonly traces: ReadonlyArray<string>
}

/** A long upload to the first pod; in its middle a later attempt takes the job on the second; then the rest comes. */
export const leaseLostMidway = async (cluster: Cluster): Promise<LeaseLostReport> => {
  const [first, second, third] = cluster.pods.map(({ baseUrl }) => baseUrl)
  if (first === undefined || second === undefined || third === undefined) throw new Error("three pods are needed")
  const tenant = await makeTenant(first, cluster.adminKey)
  const upload = beginUpload(first, tenant, "late.bin")
  for (let sent = 0; sent < 8; sent++) await upload.send(randomBytes(MiB))
  const claim = {
    run_id: tenant.runId,
    step_id: "step-1",
    worker_session_id: "session-2",
    attempt: 2,
    owner: { kind: "agent", id: "worker" },
    lease_seconds: 300,
  }
  const taken = await call(`${second}/v1/projects/${tenant.project}/claims/${tenant.jobId}`, cluster.adminKey, {
    method: "PUT",
    body: JSON.stringify(claim),
  })
  if (taken.status !== 201) throw new Error(`the later attempt was answered ${taken.status}`)
  for (let sent = 0; sent < 8; sent++) await upload.send(randomBytes(MiB)).catch(() => {})
  upload.finish()
  const late = await upload.answer

  const traces: Array<string> = []
  const { body: view } = await call(`${third}/v1/admin/projects/${tenant.project}`, cluster.adminKey)
  if (view.used_bytes + view.reserved_bytes + view.artifact_count !== 0) traces.push(`counters ${JSON.stringify(view)}`)
  const db = new pg.Client({ connectionString: cluster.postgres.url })
  const redis = new Redis(cluster.redis.url)
  await db.connect()
  try {
    const { rows } = await db.query("select state from artifacts where project = $1", [tenant.project])
    traces.push(...rows.map(({ state }) => `a row that is ${state}`))
    traces.push(...(await cluster.store.contents()).filter((key) => key.includes(tenant.project)))
    const next = await publish(
      third,
      { ...tenant, token: taken.body.lease_token },
      { name: "next.bin", bytes: randomBytes(9) },
    )
    // What comes into the stream after it came from the facts before it.
    const events = async () =>
      (await redis.xrange(cluster.streamKey, "-", "+")).flatMap(([, fields]) => {
        const { meta, source_id } = JSON.parse(fields[fields.indexOf("payload") + 1] ?? "{}")
        return meta.project === tenant.project ? [source_id as string] : []
      })
    const until = Date.now() + 15_000
    while (!(await events()).includes(next.body.id) && Date.now() < until)
      await new Promise((done) => setTimeout(done, 50))
    const told = await events()
    if (told.join() !== next.body.id) traces.push(`events of ${told.join()} instead of ${next.body.id} alone`)
    return { late, next, traces }
  } finally {
    redis.disconnect()
    await db.end()
  }
}
