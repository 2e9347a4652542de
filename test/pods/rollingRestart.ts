import { randomUUID } from "node:crypto"
import { settle } from "../faults/audit.ts"
import { startLoad } from "../faults/load.ts"
import { type Chronicle, contentOf, inWords, type Model } from "../faults/model.ts"
import { sha256 } from "../faults/plane.ts"
import { beginDownload, beginUpload } from "../faults/transfers.ts"
import { sleep } from "../support/processes.ts"
import type { Cluster } from "./support/cluster.ts"
import { insidesOf, startCluster } from "./support/cluster.ts"
import { printFailure } from "./support/report.ts"

const MiB = 1024 * 1024

export interface RollingReport {
  readonly seed: number
  readonly requests: number
  readonly slowTransfers: number
  readonly faults: ReadonlyArray<string>
  /** How requests ended that did not succeed, with how often. */
  readonly errors: Readonly<Record<string, number>>
}

/** Of the claim that each project is made with. */
const claim = {
  jobId: "job-1",
  runId: "run-1",
  stepId: "step-1",
  session: "session-1",
  attempt: 1,
  owner: "worker",
  visibility: "shared",
} as const

/** An upload and a download of some seconds each, shorter than the drain and longer than the balancer takes to notice. */
const slowTransfer = async (cluster: Cluster, model: Model, chronicle: Chronicle): Promise<void> => {
  const name = `slow/${randomUUID()}.bin`
  const bytes = contentOf(name, 8 * MiB)
  const begun = Date.now()
  const answer = await chronicle.hear("slow publish", async () => {
    const upload = beginUpload(cluster.baseUrl, model.tenant, name)
    for (let at = 0; at < bytes.length; at += MiB) {
      // Whether it could be sent is told by the answer.
      await upload.send(bytes.subarray(at, at + MiB)).catch(() => {})
      await sleep(500)
    }
    upload.finish()
    return upload.answer
  })
  if (answer === undefined) return
  if (answer.status !== 201) return chronicle.failed("slow publish", inWords(answer))
  const { id } = answer.body
  model.facts.set(id, { id, name, size: bytes.length, sha256: sha256(bytes), claim, begun, answered: Date.now() })
  chronicle.succeeded("slow publish", begun)
  const read = Date.now()
  const whole = await chronicle.hear("slow read", async () => {
    const download = await beginDownload(cluster.baseUrl, model.tenant, id)
    await sleep(3000)
    return { status: download.status, ...(await download.rest()) }
  })
  if (whole === undefined) return
  if (whole.status !== 200) return chronicle.failed("slow read", String(whole.status))
  if (whole.sha256 !== sha256(bytes)) chronicle.fault(`${id} was read with other bytes`)
  chronicle.succeeded("slow read", read)
}

/**
 * All pods are stopped by SIGTERM and started again, one after the other, under load whose transfers last less than the
 * drain. A connection that was refused goes to another pod by the balancer's hand; no caller may see anything of it.
 */
export const rollingRestart = async (
  options: { readonly seed?: number; readonly rounds?: number } = {},
): Promise<RollingReport> => {
  const seed = options.seed ?? Date.now() % 1_000_000
  const env = {
    DRAIN_DELAY_SECONDS: "2",
    DRAIN_SECONDS: "20",
    SWEEP_SECONDS: "1",
    ORPHAN_SWEEP_SECONDS: "3",
    ORPHAN_AGE_SECONDS: "60",
    ORPHAN_CONFIRM_SECONDS: "10",
  }
  const cluster = await startCluster({ pods: 3, env })
  try {
    console.log(`Rolling restart of 3 pods behind ${cluster.balancer.description}, seed ${seed}`)
    const load = await startLoad({ target: () => cluster, seed, pause: 30 })
    let rolled = false
    const slow = Promise.all(
      load.models.flatMap((model) =>
        [0, 1].map(async (turn) => {
          await sleep(turn * 2000)
          while (!rolled) await slowTransfer(cluster, model, load.chronicle)
        }),
      ),
    )
    slow.catch(() => {})
    const faults: Array<string> = []
    await sleep(2000)
    for (let round = 0; round < (options.rounds ?? 1); round++)
      for (const pod of cluster.pods) {
        const code = await pod.stop()
        if (code !== 0) faults.push(`${pod.name} ended with ${code}`)
        await pod.start()
        // Until the balancer has noticed that it is back, or the next one's end leaves it with too few.
        await sleep(2000)
      }
    rolled = true
    await slow
    await load.stop()
    const found = await settle(cluster, insidesOf(cluster), load.models)
    const errors = Object.fromEntries(load.chronicle.errors)
    faults.push(...load.chronicle.faults, ...found.sentences)
    console.table(Object.fromEntries(load.chronicle.done))
    if (faults.length > 0 || load.chronicle.errors.size > 0) printFailure(cluster, [...faults, JSON.stringify(errors)])
    return {
      seed,
      requests: load.chronicle.successes.length,
      slowTransfers: load.chronicle.done.get("slow publish") ?? 0,
      faults,
      errors,
    }
  } finally {
    await cluster.dispose()
  }
}
