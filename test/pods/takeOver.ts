import { Client } from "@deepnoodle/mobius"
import { randomBytes, randomUUID } from "node:crypto"
import { Redis } from "ioredis"
import pg from "pg"
import { makeRandom } from "../faults/random.ts"
import { inWords } from "../faults/model.ts"
import { type Answer, publish, type Tenant } from "../faults/plane.ts"
import { sleep } from "../support/processes.ts"
import type { Cluster } from "./support/cluster.ts"

/** What a cluster holds of one project. */
export interface Traces {
  /** Rows of artifacts by state; fenced ones count as `fenced`. */
  readonly rows: Readonly<Record<string, number>>
  readonly events: number
  /** Events of the project in the stream. */
  readonly streamed: number
  /** Objects and unfinished writes of the store. */
  readonly objects: number
}

export const tracesOf = async (cluster: Cluster, project: string): Promise<Traces> => {
  const db = new pg.Client({ connectionString: cluster.postgres.url })
  const redis = new Redis(cluster.redis.url)
  await db.connect()
  try {
    const { rows } = await db.query(
      `select case when fenced_at is null then state else 'fenced' end as state, count(*)::int as count
       from artifacts where project = $1 group by 1`,
      [project],
    )
    const { rows: events } = await db.query("select count(*)::int as count from events where project = $1", [project])
    const entries = await redis.xrange(cluster.streamKey, "-", "+")
    return {
      rows: Object.fromEntries(rows.map(({ state, count }) => [state, count])),
      events: events[0].count,
      streamed: entries.filter(([, fields]) => fields[fields.indexOf("project") + 1] === project).length,
      objects: (await cluster.store.contents()).filter((key) => key.includes(project)).length,
    }
  } finally {
    redis.disconnect()
    await db.end()
  }
}

/** Asks until `holds` is true of the traces, for up to `withinMs`; returns the last ones. */
export const tracesUntil = async (
  cluster: Cluster,
  project: string,
  holds: (traces: Traces) => boolean,
  withinMs: number,
): Promise<Traces> => {
  const until = Date.now() + withinMs
  for (;;) {
    const traces = await tracesOf(cluster, project)
    if (holds(traces) || Date.now() > until) return traces
    await sleep(200)
  }
}

/** How many rows of artifacts were ever written, removed ones included; counted with a delay of up to a second. */
export const rowsEverWritten = async (cluster: Cluster): Promise<number> => {
  const db = new pg.Client({ connectionString: cluster.postgres.url })
  await db.connect()
  try {
    const { rows } = await db.query(
      "select n_tup_ins::int as count from pg_stat_user_tables where relname = 'artifacts'",
    )
    return rows[0].count
  } finally {
    await db.end()
  }
}

/**
 * An upload by the platform's public client, with its own retries. Its first request goes to `first` and stops midway
 * until the connection breaks; every other one goes to `second`. Returns the artifact and how many requests it took.
 */
export const publishBySdk = async (
  first: string,
  second: string,
  tenant: Tenant,
  file: { readonly name: string; readonly bytes: Uint8Array; readonly halfway: () => void },
): Promise<{ readonly artifact: any; readonly requests: number }> => {
  const platformFetch = globalThis.fetch
  let requests = 0
  globalThis.fetch = async (input, init) => {
    if (init?.method !== "POST") return platformFetch(input, init)
    const headers = new Headers(init.headers)
    headers.set("x-mobius-lease-token", tenant.token)
    requests++
    if (requests > 1) return platformFetch(input, { ...init, headers })
    const whole = new Response(init.body ?? null)
    headers.set("content-type", whole.headers.get("content-type") ?? "")
    const body = new Uint8Array(await whole.arrayBuffer())
    const parts = async function* () {
      yield body.subarray(0, body.length >> 1)
      file.halfway()
      await new Promise(() => {})
    }
    return platformFetch(String(input).replace(second, first), {
      method: "POST",
      headers,
      body: ReadableStream.from(parts()) as unknown as NonNullable<RequestInit["body"]>,
      duplex: "half",
    } as RequestInit)
  }
  try {
    const client = new Client({ baseURL: second, apiKey: tenant.key, project: tenant.project })
    const artifact = await client.createArtifact({
      name: file.name,
      file: Buffer.from(file.bytes),
      idempotencyKey: randomUUID(),
    })
    return { artifact, requests }
  } finally {
    globalThis.fetch = platformFetch
  }
}

/** The sender's upload was taken over by a request whose own client then left. */
const takeOverFailed = ({ body, status }: Answer) =>
  status === 503 && body.error.message.startsWith("The request that took this upload over ended without an artifact")

export interface StormReport {
  readonly seed: number
  /** How often each answer came, and each broken connection; "take-over failed" is the 503 of such a sender. */
  readonly answers: Readonly<Record<string, number>>
  /** Keys of which no sender heard of an artifact, or heard of several. */
  readonly unsettled: ReadonlyArray<string>
}

/**
 * `keys` keys, each sent by three senders at once to any pod, some of which break their request off; the first pod is
 * killed in the middle and started again. Each sender asks until it has a final answer, as an SDK does.
 */
export const storm = async (cluster: Cluster, tenant: Tenant, keys: number, seed: number): Promise<StormReport> => {
  const random = makeRandom(seed)
  const answers: Record<string, number> = {}
  const heard = new Map<string, Set<string>>()
  const count = (what: string) => {
    answers[what] = (answers[what] ?? 0) + 1
  }
  const ask = async (key: string, bytes: Uint8Array<ArrayBuffer>): Promise<Answer | undefined> => {
    const pod = random.pick(cluster.pods)
    const breaksOff = random.below(4) === 0
    const signal = AbortSignal.timeout(breaksOff ? random.between(1, 60) : 60_000)
    try {
      return await publish(pod?.baseUrl ?? "", tenant, { name: `storm/${key}`, bytes, key, signal, chunked: true })
    } catch {
      count(breaksOff ? "broken off" : "connection broken")
      return undefined
    }
  }
  const send = async (key: string, bytes: Uint8Array<ArrayBuffer>) => {
    await sleep(random.below(1500))
    for (;;) {
      const answer = await ask(key, bytes)
      if (answer !== undefined) {
        count(takeOverFailed(answer) ? "take-over failed" : inWords(answer))
        if (answer.status === 200 || answer.status === 201)
          heard.set(key, (heard.get(key) ?? new Set()).add(answer.body.id))
        if (answer.status < 500) return
      }
      await sleep(random.between(50, 200))
    }
  }
  const senders = Array.from({ length: keys }, (_, index) => {
    const bytes = randomBytes(40_000 + index)
    return Array.from({ length: 3 }, () => send(`${seed}-${index}`, bytes))
  }).flat()
  const [first] = cluster.pods
  await sleep(600)
  await first?.kill9()
  await first?.start()
  await Promise.all(senders)
  const unsettled = Array.from({ length: keys }, (_, index) => `${seed}-${index}`).filter(
    (key) => heard.get(key)?.size !== 1,
  )
  return { seed, answers, unsettled }
}
