import { randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"
import pg from "pg"
import { publish, type Tenant } from "../../faults/plane.ts"
import { sleep } from "../../support/processes.ts"
import { type Bench, KiB, MiB } from "../bench.ts"
import type { RequestSpec } from "../jobs.ts"
import { listing, publishing, reading } from "../requests.ts"
import { percentile } from "../rounds.ts"
import { startWorker } from "../worker.ts"
import { seeding } from "./list.ts"

/** How many times as long as alone another tenant's publish may take beside a flooding one. */
export const bounds = [
  ["p50", 0.5, 3],
  ["p99", 0.99, 10],
] as const

/** The name of an attack's ratio among the facts. */
export const ratioOf = (attack: string, title: string) =>
  `beside ${attack}: another tenant's publish against alone, ${title}`

const flood = 64
export const attacks = [
  "64 lists",
  "64 lists of a mime that nobody has",
  "64 publishes",
  "64 requests with unknown keys",
  "64 readers of large pages that stall",
  "64 downloads that stall",
  "256 uploads that stall",
  "64 event streams from the first event",
  "16 uploads in chunks of one byte",
  "1100 connections without a request",
] as const

const unknownKey = (): RequestSpec => ({
  head: `GET /v1/artifacts HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer mbx_${randomBytes(32).toString("hex")}`,
  status: 401,
})

/** Artifacts of the hostile tenant: many small ones, then a hundred whose metadata fill a page. */
const stock = async (databaseUrl: string, tenant: Tenant, rows: number): Promise<void> => {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query("set session_replication_role = replica")
    await client.query(seeding, [tenant.project, rows, 1000])
    const metadata = JSON.stringify({ text: "x".repeat(60_000) })
    await client.query(
      `update artifacts set metadata = $2, run_id = 'large' where id in (
         select id from artifacts where project = $1 order by created_at limit 100)`,
      [tenant.project, metadata],
    )
    await client.query("vacuum analyze artifacts")
  } finally {
    await client.end()
  }
}

/** Connections that send these bytes and nothing else, and read the answer or do not. Ends with the function returned. */
const connections = (port: number, count: number, bytes: string | Buffer, answer: "read" | "unread"): (() => void) => {
  const sockets: Array<Socket> = Array.from({ length: count }, () => {
    const socket = connect(port, "127.0.0.1")
    socket.on("error", () => {})
    if (answer === "read") socket.resume()
    socket.write(bytes)
    return socket
  })
  return () => {
    for (const socket of sockets) socket.destroy()
  }
}

const requestOf = ({ head }: RequestSpec) => `${head}\r\n\r\n`

/** An upload of `bytes`, each byte in a chunk of its own. */
const inBytes = (spec: RequestSpec, bytes: number): Buffer => {
  const { prefix = "", suffix = "" } = spec.body ?? {}
  const body = [...`${prefix}${"x".repeat(bytes)}${suffix}`].map((byte) => `1\r\n${byte}\r\n`).join("")
  return Buffer.from(`${spec.head}\r\nTransfer-Encoding: chunked\r\n\r\n${body}0\r\n\r\n`)
}

/** What needs no answers to be counted: open connections, until they are let go. */
const held = (port: number, hostile: Tenant, artifact: string): Readonly<Record<string, () => () => void>> => {
  const uploading = publishing(hostile, 1024 * KiB)
  const begun = `${uploading.head}\r\nContent-Length: ${1024 * KiB}\r\n\r\n${uploading.body?.prefix}x`
  const events = `GET /v1/projects/${hostile.project}/events?after=0 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer ${hostile.key}\r\nAccept: text/event-stream`
  return {
    [attacks[4]]: () =>
      connections(port, flood, requestOf(listing(hostile, { limit: "100", run_id: "large" })), "unread"),
    [attacks[5]]: () => connections(port, flood, requestOf(reading(hostile, artifact, 8 * MiB)), "unread"),
    [attacks[6]]: () => connections(port, 256, begun, "unread"),
    [attacks[7]]: () => connections(port, flood, `${events}\r\n\r\n`, "read"),
    [attacks[8]]: () => connections(port, 16, inBytes(publishing(hostile, 256 * KiB), 256 * KiB), "read"),
    [attacks[9]]: () => connections(port, 1100, "", "unread"),
  }
}

/** One tenant that floods a node beside one that publishes, one request after the other: what the flood costs it. */
export const tenants = async (bench: Bench): Promise<void> => {
  const { stack } = bench.production
  const { quick } = bench.options
  const [port] = stack.ports
  if (stack.databaseUrl === undefined || port === undefined) return
  const [honest, hostile] = await stack.tenants(2)
  if (honest === undefined || hostile === undefined) return
  await stock(stack.databaseUrl, hostile, quick ? 2000 : 20_000)
  const seconds = quick ? 0.3 : 4
  const honestly = startWorker("load.ts")
  try {
    const publishes = async (title: string) => {
      const requests = [publishing(honest, 4 * KiB)]
      const result = await honestly.run({ kind: "http", ports: stack.ports, clients: 1, seconds, requests })
      for (const error of result.errors) bench.errors.push(`tenants, ${title}: ${error}`)
      return result.latencyMicros.toSorted((a, b) => a - b)
    }
    const keys = Array.from({ length: quick ? 200 : 10_000 }, unknownKey)
    const floods: Readonly<Partial<Record<(typeof attacks)[number], ReadonlyArray<RequestSpec>>>> = {
      [attacks[0]]: [listing(hostile, { limit: "100" })],
      [attacks[1]]: [listing(hostile, { limit: "100", mime: "no/such" })],
      [attacks[2]]: [publishing(hostile, 4 * KiB)],
      [attacks[3]]: keys,
    }
    const large = await publish(`http://127.0.0.1:${port}`, hostile, { name: "large", bytes: randomBytes(8 * MiB) })
    const hold = held(port, hostile, String(large.body.id))
    for (const attack of attacks) {
      if (!attack.includes(bench.options.match)) continue
      const alone = await publishes("alone")
      const requests = floods[attack]
      const job = {
        kind: "http",
        ports: stack.ports,
        clients: flood,
        seconds: seconds + 1,
        requests: requests ?? [],
      } as const
      const flooding = requests === undefined ? undefined : bench.load.run(job)
      const end = hold[attack]?.()
      await sleep(quick ? 100 : 500)
      const beside = await publishes(attack)
      end?.()
      for (const error of (await flooding)?.errors ?? []) bench.errors.push(`tenants, ${attack}: ${error}`)
      for (const [title, share] of bounds) {
        const [before, during] = [percentile(alone, share) / 1000, percentile(beside, share) / 1000]
        const note = `${before.toFixed(1)} ms alone, ${during.toFixed(1)} ms beside it`
        bench.facts.push({ name: ratioOf(attack, title), value: during / before, unit: "×", note })
        console.log(`  ${attack}: ${title} ${(during / before).toFixed(1)} × (${note})`)
      }
      await sleep(quick ? 0 : 1000)
    }
  } finally {
    await honestly.stop()
  }
}
