import { sleep } from "../support/processes.ts"
import { checkEvents, type Row } from "./auditEvents.ts"
import type { Target } from "./clients.ts"
import type { Insides, Look } from "./insides.ts"
import type { Model } from "./model.ts"
import { call, sdkTimeout, sha256 } from "./plane.ts"

export interface Found {
  /** About what does not hold; empty when all does. */
  readonly sentences: ReadonlyArray<string>
  readonly artifacts: number
  readonly blobs: number
  readonly events: number
  readonly look: Look
}

export interface Settled extends Found {
  readonly settledAfterMs: number
  /** What did not hold at the last look before all did. */
  readonly lastDoubts: ReadonlyArray<string>
}

class Findings {
  readonly sentences: Array<string> = []
  readonly say = (holds: boolean, sentence: string): void => {
    if (!holds && this.sentences.length < 100) this.sentences.push(sentence)
  }
}

/** What was acknowledged stands as it was acknowledged; what was refused does not stand; at most one of what is in doubt. */
const checkFacts = (model: Model, rows: ReadonlyArray<Row>, { say }: Findings): void => {
  const byId = new Map(rows.map((row) => [row.id, row]))
  for (const fact of model.facts.values()) {
    const row = byId.get(fact.id)
    const deletion = model.deletions.get(fact.id)
    if (deletion === undefined) say(row?.state === "ready", `${fact.id} was acknowledged and is ${row?.state}`)
    else if (deletion.answered !== undefined)
      say(row?.state === "deleted", `${fact.id} was deleted and is ${row?.state}`)
    else say(row?.state === "ready" || row?.state === "deleted", `${fact.id}, deleted or not, is ${row?.state}`)
    if (row === undefined) continue
    const { claim } = fact
    const agreed = [
      [row.name, fact.name],
      [Number(row.size), fact.size],
      [row.sha256, fact.sha256],
      [row.run_id, claim.runId],
      [row.step_id, claim.stepId],
      [row.job_id, claim.jobId],
      [row.worker_session_id, claim.session],
      [row.attempt, claim.attempt],
      [row.owner_id, claim.owner],
      [row.visibility, claim.visibility],
    ]
    for (const [is, was] of agreed) say(is === was, `${fact.id} was acknowledged with ${was} and has ${is}`)
    if (row.state === "deleted") say(row.metadata === "{}", `the tombstone ${fact.id} keeps metadata`)
    const kept = row.metadata === "{}" ? 0 : Buffer.byteLength(row.metadata)
    if (row.state === "ready" && row.charged_bytes !== null)
      say(Number(row.charged_bytes) === fact.size + kept, `${fact.id} was charged ${row.charged_bytes} bytes`)
  }
  const named = Map.groupBy(rows, ({ name }) => name)
  for (const [name, found] of named) {
    say(found.length === 1, `${found.length} artifacts were made of one upload, ${name}`)
    say(!model.refused.has(name), `${name} had to be refused and is ${found[0]?.state}`)
    const known = found.some(({ id }) => model.facts.has(id)) || model.doubtful.has(name)
    say(known || model.refused.has(name), `nobody asked for ${name}`)
  }
}

/** What the API shows of a project: exactly the ready rows, and counters that are their sum. */
const checkViews = async (target: Target, model: Model, ready: ReadonlyArray<Row>, { say }: Findings) => {
  const { key, project } = model.tenant
  const listed: Array<string> = []
  let cursor = ""
  do {
    const { body, status } = await call(
      `${target.baseUrl}/v1/projects/${project}/artifacts?limit=100${cursor && `&cursor=${cursor}`}`,
      key,
    )
    if (status !== 200) return say(false, `the list of ${project} is answered ${status}`)
    listed.push(...body.items.map(({ id }: { id: string }) => id))
    cursor = body.next_cursor === undefined ? "" : encodeURIComponent(body.next_cursor)
  } while (cursor !== "")
  say(
    listed.toSorted().join() ===
      ready
        .map(({ id }) => id)
        .toSorted()
        .join(),
    `the list of ${project} shows ${listed.length} of ${ready.length} artifacts`,
  )
  const used = ready.reduce((sum, row) => sum + Number(row.charged_bytes ?? row.size), 0)
  const { body } = await call(`${target.baseUrl}/v1/admin/projects/${project}`, target.adminKey)
  say(body.used_bytes === used, `the counters say ${body.used_bytes} bytes are used, the rows ${used}`)
  say(body.reserved_bytes === 0, `${body.reserved_bytes} bytes are still reserved`)
  say(body.artifact_count === ready.length, `${body.artifact_count} artifacts are counted, ${ready.length} are ready`)
}

/** The projects whose usage is not the sum of their rows. */
const wrongUsages = ({ rows, usages }: Look): ReadonlyArray<string> => {
  const ready = Map.groupBy(
    rows.filter(({ state }) => state === "ready"),
    ({ project }) => project,
  )
  return usages.flatMap(({ artifactCount, project, usedBytes }) => {
    const mine = ready.get(project) ?? []
    const sum = mine.reduce((bytes, row) => bytes + Number(row.charged_bytes ?? row.size), 0)
    return usedBytes === sum && artifactCount === mine.length ? [] : [project]
  })
}

const audit = async (target: Target, insides: Insides, models: ReadonlyArray<Model>): Promise<Found> => {
  const findings = new Findings()
  const { say } = findings
  const look = await insides.look()
  const { entries, rows } = look
  const pending = rows.filter(({ state }) => state === "pending").length
  say(pending === 0, `${pending} uploads are still pending`)
  say(look.queuedRemovals === 0, `${look.queuedRemovals} removals are still queued`)
  say(look.unpublishedEvents === 0, `${look.unpublishedEvents} events are not in the stream`)

  const ready = rows.filter(({ state }) => state === "ready")
  const blobs = new Set(look.blobs)
  const keys = new Set(ready.map((row) => row.blob_key))
  const strays = [...blobs].filter((key) => !keys.has(key))
  say(strays.length === 0, `${strays.length} objects without a row, among them ${strays[0]}`)
  const bare = [...keys].filter((key) => !blobs.has(key))
  say(bare.length === 0, `${bare.length} ready artifacts without an object, among them ${bare[0]}`)
  const wrong = wrongUsages(look)
  say(wrong.length === 0, `the usage of ${wrong.length} projects is not the sum of their rows`)

  for (const model of models) {
    const mine = rows.filter(({ project, state }) => project === model.tenant.project && state !== "pending")
    checkFacts(model, mine, findings)
    await checkViews(
      target,
      model,
      mine.filter(({ state }) => state === "ready"),
      findings,
    )
  }
  checkEvents(entries, rows, models, say)
  return { sentences: findings.sentences, artifacts: ready.length, blobs: blobs.size, events: entries.length, look }
}

/** Reads every ready artifact to its end and compares the digest of what came with its row's. */
const auditBytes = async (target: Target, { rows }: Look, models: ReadonlyArray<Model>) => {
  const findings = new Findings()
  const byProject = new Map(models.map((model) => [model.tenant.project, model]))
  const unread = rows.filter(({ project, state }) => state === "ready" && byProject.has(project))
  const readAll = async () => {
    for (let row = unread.pop(); row !== undefined; row = unread.pop()) {
      const key = byProject.get(row.project)?.keyOf(row.owner_id)
      const response = await fetch(`${target.baseUrl}/v1/projects/${row.project}/artifacts/${row.id}/content`, {
        headers: { authorization: `Bearer ${key}` },
        signal: AbortSignal.timeout(sdkTimeout),
      })
      const bytes = new Uint8Array(await response.arrayBuffer())
      findings.say(
        response.status === 200 && sha256(bytes) === row.sha256,
        `${row.id} is ready, and its bytes are answered ${response.status} with ${bytes.length} of ${row.size} bytes`,
      )
    }
  }
  await Promise.all([1, 2, 3, 4].map(readAll))
  return findings.sentences
}

/** Asks until everything agrees, for up to `withinMs`; tells what still does not. Every byte is compared at the end. */
export const settle = async (
  target: Target,
  insides: Insides,
  models: ReadonlyArray<Model>,
  withinMs = 60_000,
): Promise<Settled> => {
  const began = Date.now()
  let lastDoubts: ReadonlyArray<string> = []
  for (;;) {
    const found = await audit(target, insides, models)
    const settledAfterMs = Date.now() - began
    if (found.sentences.length === 0 || settledAfterMs > withinMs) {
      const sentences = [...found.sentences, ...(await auditBytes(target, found.look, models))]
      return { ...found, sentences, settledAfterMs, lastDoubts }
    }
    lastDoubts = found.sentences
    await sleep(1000)
  }
}
