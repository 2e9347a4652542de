import { Redis } from "ioredis"
import pg from "pg"
import { sleep } from "../support/processes.ts"
import { checkEvents, type Entry, type Row } from "./auditEvents.ts"
import type { Target } from "./clients.ts"
import type { Model } from "./model.ts"
import { call, sha256 } from "./plane.ts"

/** Where the plane keeps what it knows. */
export interface Insides {
  readonly postgresUrl: string
  readonly redisUrl: string
  readonly streamKey: string
  /** Every object and every unfinished write of the store. */
  readonly blobs: () => Promise<ReadonlyArray<string>>
}

export interface Found {
  /** About what does not hold; empty when all does. */
  readonly sentences: ReadonlyArray<string>
  readonly artifacts: number
  readonly blobs: number
  readonly events: number
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
    const { body } = await call(
      `${target.baseUrl}/v1/projects/${project}/artifacts?limit=100${cursor && `&cursor=${cursor}`}`,
      key,
    )
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

const audit = async (target: Target, insides: Insides, models: ReadonlyArray<Model>): Promise<Found> => {
  const findings = new Findings()
  const { say } = findings
  const db = new pg.Client({ connectionString: insides.postgresUrl })
  const redis = new Redis(insides.redisUrl)
  redis.on("error", () => {})
  await db.connect()
  try {
    const rows: ReadonlyArray<Row> = (await db.query("select * from artifacts")).rows
    const count = async (sql: string) => Number((await db.query(sql)).rows[0].count)
    const pending = rows.filter(({ state }) => state === "pending").length
    say(pending === 0, `${pending} uploads are still pending`)
    const queued = await count("select count(*) from removals")
    say(queued === 0, `${queued} removals are still queued`)
    const unpublished = await count("select count(*) from events where published_at is null")
    say(unpublished === 0, `${unpublished} events are not in the stream`)

    const ready = rows.filter(({ state }) => state === "ready")
    const blobs = new Set(await insides.blobs())
    const keys = new Set(ready.map((row) => row.blob_key))
    const strays = [...blobs].filter((key) => !keys.has(key))
    say(strays.length === 0, `${strays.length} objects without a row, among them ${strays[0]}`)
    const bare = [...keys].filter((key) => !blobs.has(key))
    say(bare.length === 0, `${bare.length} ready artifacts without an object, among them ${bare[0]}`)
    const wrongBooks = await db.query(`
      select handle from projects left join artifacts on project = handle and state = 'ready'
      group by handle having used_bytes <> coalesce(sum(coalesce(charged_bytes, size)), 0) or artifact_count <> count(id)`)
    say(wrongBooks.rows.length === 0, `the books of ${wrongBooks.rows.length} projects are not the sum of their rows`)

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
    const entries: ReadonlyArray<Entry> = (await redis.xrange(insides.streamKey, "-", "+")).map(([id, fields]) => ({
      id,
      payload: JSON.parse(fields[fields.indexOf("payload") + 1] ?? "{}"),
    }))
    checkEvents(entries, rows, models, say)
    return { sentences: findings.sentences, artifacts: ready.length, blobs: blobs.size, events: entries.length }
  } finally {
    redis.disconnect()
    await db.end()
  }
}

/** Reads every ready artifact to its end and compares the digest of what came with its row's. */
const auditBytes = async (target: Target, insides: Insides, models: ReadonlyArray<Model>) => {
  const findings = new Findings()
  const keys = new Map(models.map(({ tenant }) => [tenant.project, tenant.key]))
  const db = new pg.Client({ connectionString: insides.postgresUrl })
  await db.connect()
  const rows: Array<Row> = await db
    .query("select * from artifacts where state = 'ready'")
    .then(({ rows }) => rows)
    .finally(() => db.end())
  const readAll = async () => {
    for (let row = rows.pop(); row !== undefined; row = rows.pop()) {
      const response = await fetch(`${target.baseUrl}/v1/projects/${row.project}/artifacts/${row.id}/content`, {
        headers: { authorization: `Bearer ${keys.get(row.project)}` },
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
      const sentences = [...found.sentences, ...(await auditBytes(target, insides, models))]
      return { ...found, sentences, settledAfterMs, lastDoubts }
    }
    lastDoubts = found.sentences
    await sleep(1000)
  }
}
