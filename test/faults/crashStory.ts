import { randomBytes, randomInt, randomUUID } from "node:crypto"
import { readdirSync } from "node:fs"
import { Redis } from "ioredis"
import pg from "pg"
import { sleep } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish, sha256, startPlane, type Tenant } from "./plane.ts"

/** What the clients know: every acknowledged fact, and what they never heard the end of. */
interface Model {
  readonly artifacts: Map<string, { readonly sha256: string; readonly size: number; readonly key: string }>
  readonly deleted: Set<string>
  /** Deletes that were asked for and not answered: either end is right. */
  readonly doubtful: Set<string>
  published: number
  replayed: number
  reads: number
  broken: number
}

const sizes = [0, 1, 900, 4096, 70_000, 300_000, 1_500_000, 6_000_000]

/** Publishes until it is acknowledged, under one key, however often the node dies in between. */
const publishOnce = async (plane: Plane, tenant: Tenant, model: Model, stopped: () => boolean) => {
  const bytes = randomBytes(sizes[randomInt(sizes.length)] ?? 0)
  const key = randomUUID()
  const file = { name: `files/${key}.bin`, bytes, key, chunked: randomInt(2) === 0 }
  while (!stopped()) {
    try {
      const { status, body } = await publish(plane.node().baseUrl, tenant, file)
      if (status === 201 || status === 200) {
        model.artifacts.set(body.id, { sha256: sha256(bytes), size: bytes.length, key })
        model.published++
        if (status === 200) model.replayed++
        return
      }
      if (status !== 409 && status !== 503) throw new Error(`publish answered ${status}: ${JSON.stringify(body)}`)
    } catch (error) {
      if (!(error instanceof TypeError || (error as Error).name === "TimeoutError" || error instanceof SyntaxError))
        throw error
      model.broken++
    }
    await sleep(150)
  }
}

const deleteOne = async (plane: Plane, tenant: Tenant, model: Model) => {
  const ids = [...model.artifacts.keys()].filter((id) => !model.deleted.has(id) && !model.doubtful.has(id))
  const id = ids[randomInt(Math.max(1, ids.length))]
  if (id === undefined) return
  model.doubtful.add(id)
  try {
    const { status } = await call(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/${id}`, tenant.key, {
      method: "DELETE",
    })
    if (status === 204) {
      model.deleted.add(id)
      model.doubtful.delete(id)
    }
  } catch {
    model.broken++
  }
}

const readOne = async (plane: Plane, tenant: Tenant, model: Model) => {
  const ids = [...model.artifacts.keys()]
  const id = ids[randomInt(Math.max(1, ids.length))]
  if (id === undefined) return
  try {
    const response = await fetch(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/${id}/content`, {
      headers: { authorization: `Bearer ${tenant.key}` },
      signal: AbortSignal.timeout(30_000),
    })
    const bytes = new Uint8Array(await response.arrayBuffer())
    if (response.status === 200) {
      model.reads++
      if (sha256(bytes) !== model.artifacts.get(id)?.sha256) throw new RangeError(`${id} was read with other bytes`)
    }
  } catch (error) {
    if (error instanceof RangeError) throw error
    model.broken++
  }
}

const load = async (
  plane: Plane,
  tenants: ReadonlyArray<Tenant>,
  models: ReadonlyArray<Model>,
  stopped: () => boolean,
) => {
  const client = async (index: number) => {
    const tenant = tenants[index % tenants.length]
    const model = models[index % models.length]
    if (tenant === undefined || model === undefined) return
    while (!stopped()) {
      const dice = randomInt(10)
      if (dice < 6) await publishOnce(plane, tenant, model, stopped)
      else if (dice < 8) await readOne(plane, tenant, model)
      else await deleteOne(plane, tenant, model)
      await sleep(5)
    }
  }
  await Promise.all(Array.from({ length: 12 }, (_, index) => client(index)))
}

export interface CrashReport {
  readonly kills: number
  readonly published: number
  readonly replayed: number
  readonly deleted: number
  readonly reads: number
  readonly broken: number
  readonly events: number
  /** Milliseconds from kill -9 until the next node was ready. */
  readonly recovery: { readonly p50: number; readonly max: number }
  /** Sentences about what did not hold; empty when all did. */
  readonly faults: ReadonlyArray<string>
}

/** Kills the node at random moments of a mixed load, lets the sweeps work, and compares rows, blobs, counters and events. */
export const crashStory = async (kills: number): Promise<CrashReport> => {
  const plane = await startPlane({
    SWEEP_SECONDS: "1",
    ABANDONED_AFTER_SECONDS: "15",
    ORPHAN_SWEEP_SECONDS: "3",
    ORPHAN_AGE_SECONDS: "5",
  })
  try {
    const { baseUrl } = plane.node()
    const tenants = await Promise.all([1, 2, 3].map(() => makeTenant(baseUrl, plane.adminKey)))
    const models = tenants.map((): Model => ({
      artifacts: new Map(),
      deleted: new Set(),
      doubtful: new Set(),
      published: 0,
      replayed: 0,
      reads: 0,
      broken: 0,
    }))
    let done = false
    const working = load(plane, tenants, models, () => done)
    const recoveries: Array<number> = []
    for (let kill = 0; kill < kills; kill++) {
      await Promise.race([sleep(randomInt(200, 1500)), working])
      await plane.node().kill9()
      const began = Date.now()
      await plane.start()
      recoveries.push(Date.now() - began)
    }
    await sleep(1000)
    done = true
    await working
    const faults = await settle(plane, tenants, models)
    recoveries.sort((a, b) => a - b)
    const total = (of: (model: Model) => number) => models.reduce((sum, model) => sum + of(model), 0)
    return {
      kills,
      published: total((model) => model.published),
      replayed: total((model) => model.replayed),
      deleted: total((model) => model.deleted.size),
      reads: total((model) => model.reads),
      broken: total((model) => model.broken),
      events: faults.events,
      recovery: { p50: recoveries[recoveries.length >> 1] ?? 0, max: recoveries.at(-1) ?? 0 },
      faults: faults.sentences,
    }
  } finally {
    await plane.dispose()
  }
}

/** Asks until everything agrees, for up to 60 s; returns what still does not. */
const settle = async (plane: Plane, tenants: ReadonlyArray<Tenant>, models: ReadonlyArray<Model>) => {
  const until = Date.now() + 60_000
  for (;;) {
    const found = await audit(plane, tenants, models)
    if (found.sentences.length === 0 || Date.now() > until) return found
    await sleep(2000)
  }
}

const audit = async (plane: Plane, tenants: ReadonlyArray<Tenant>, models: ReadonlyArray<Model>) => {
  const sentences: Array<string> = []
  const say = (holds: boolean, sentence: string) => {
    if (!holds) sentences.push(sentence)
  }
  const db = new pg.Client({ connectionString: plane.postgres.url })
  const redis = new Redis(plane.redis.url)
  await db.connect()
  try {
    const rows: Array<{
      id: string
      project: string
      state: string
      size: string
      sha256: string
      blob_key: string
      idempotency_hash: Buffer | null
    }> = (await db.query("select * from artifacts")).rows
    say(
      rows.every((row) => row.state !== "pending"),
      "an upload is still pending",
    )
    say(Number((await db.query("select count(*) from removals")).rows[0].count) === 0, "a removal is still queued")
    const ready = rows.filter((row) => row.state === "ready")
    const hashes = rows.flatMap((row) => (row.idempotency_hash ? [row.idempotency_hash.toString("hex")] : []))
    say(new Set(hashes).size === hashes.length, "a key made two artifacts")

    const blobs = readdirSync(plane.blobDir, { recursive: true, withFileTypes: true }).filter(
      (entry) => entry.isFile() && entry.name !== "store-id",
    )
    say(blobs.length === ready.length, `${blobs.length} files for ${ready.length} ready artifacts`)

    for (const [index, tenant] of tenants.entries()) {
      const model = models[index]
      if (model === undefined) continue
      const mine = new Map(rows.filter((row) => row.project === tenant.project).map((row) => [row.id, row]))
      for (const [id, fact] of model.artifacts) {
        const row = mine.get(id)
        if (model.deleted.has(id)) say(row?.state === "deleted", `${id} was deleted and is ${row?.state}`)
        else if (!model.doubtful.has(id)) say(row?.state === "ready", `${id} was acknowledged and is ${row?.state}`)
        say(row?.sha256 === fact.sha256, `${id} has another digest`)
      }
      const used = [...mine.values()]
        .filter((row) => row.state === "ready")
        .reduce((sum, row) => sum + Number(row.size), 0)
      const { body } = await call(`${plane.node().baseUrl}/v1/admin/projects/${tenant.project}`, plane.adminKey)
      say(body.used_bytes === used, `the counters say ${body.used_bytes} bytes are used, the rows ${used}`)
      say(body.reserved_bytes === 0, `${body.reserved_bytes} bytes are still reserved`)
    }

    const keys = new Map(tenants.map((tenant) => [tenant.project, tenant.key]))
    for (const row of ready) {
      const response = await fetch(`${plane.node().baseUrl}/v1/projects/${row.project}/artifacts/${row.id}/content`, {
        headers: { authorization: `Bearer ${keys.get(row.project)}` },
      })
      const bytes = new Uint8Array(await response.arrayBuffer())
      say(
        response.status === 200 && sha256(bytes) === row.sha256,
        `${row.id} is ready and its bytes do not match its digest`,
      )
    }

    const entries = await redis.xrange(plane.streamKey, "-", "+")
    const facts = entries.map(([entry, fields]) => {
      const { event_type, source_id } = JSON.parse(fields[fields.indexOf("payload") + 1] ?? "{}")
      return { entry, fact: `${event_type} ${source_id}` }
    })
    const expected = rows.flatMap((row) =>
      row.state === "deleted"
        ? [`artifact.created ${row.id}`, `artifact.deleted ${row.id}`]
        : [`artifact.created ${row.id}`],
    )
    say(
      facts.every(({ entry }, index) => entry === `${index + 1}-0`),
      "the stream is not dense from 1",
    )
    say(
      facts
        .map(({ fact }) => fact)
        .sort()
        .join() === expected.sort().join(),
      `${facts.length} events for ${expected.length} facts`,
    )
    return { sentences, events: facts.length }
  } finally {
    redis.disconnect()
    await db.end()
  }
}
