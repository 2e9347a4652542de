import { once } from "node:events"
import { connect } from "node:net"
import { sleep } from "../../support/processes.ts"
import { filesOpenOf, foldersOpenOf, residentBytes } from "../../support/procfs.ts"
import type { Tenant } from "../../faults/plane.ts"
import { type Bench, type Fact, KiB, must, type Site } from "../bench.ts"
import { clientsOf, tablesOf } from "../database.ts"
import { beating, deleting, describing, listing, publishing, quotaOf, reading, streamingEvents } from "../requests.ts"
import { startWorker, type Worker } from "../worker.ts"
import { makeArtifact } from "./read.ts"

const parts = 20
/** So many projects are worked in, by one key each. */
const projects = 4
/** Event streams of each, opened anew in each part. */
const streamsEach = 4
/** Connections and files that come and go at any moment: a pool that grows, a file that is read while one looks. */
const leeway = 8

/** What a node holds after a part of the run. */
interface Sample {
  readonly memory: number
  readonly files: number
  /** Connections of clients to Postgres and Redis; absent on the embedded stack. */
  readonly database: number | undefined
  readonly redis: number | undefined
}

const lookAt = async ({ databaseUrl, nodes, redisUrl }: Site["stack"]): Promise<Sample> => {
  const pid = nodes[0]?.pid ?? 0
  const clients =
    databaseUrl === undefined || redisUrl === undefined ? undefined : await clientsOf(databaseUrl, redisUrl)
  return {
    memory: residentBytes(pid) / 1e6,
    // The file store keeps its 256 folders open, each from its first use on.
    files: filesOpenOf(pid) - foldersOpenOf(pid),
    database: clients?.database,
    redis: clients?.redis,
  }
}

/** An event stream, from now to its end by the client; resolves once it has begun. */
const openStream = async (port: number, tenant: Tenant) => {
  const socket = connect(port, "127.0.0.1")
  let events = 0
  socket.on("error", () => {})
  socket.setEncoding("latin1").on("data", (chunk: string) => (events += chunk.split("\nevent: ").length - 1))
  socket.write(`${streamingEvents(tenant).head}\r\n\r\n`)
  await once(socket, "data")
  return { events: () => events, end: () => void socket.destroy() }
}

/** A tenth publishes and a tenth deletes what was published; the rest reads, lists, beats and asks for the quota. */
const work = async (site: Site, changing: Worker, asking: Worker, requests: number): Promise<void> => {
  const { ports } = site.stack
  const tenants = site.tenants.slice(0, projects)
  const id = await makeArtifact({ load: changing }, site, 4 * KiB)
  const [first] = tenants
  if (first === undefined) return
  // Small ones are kept in the database, larger ones in the store.
  const publishes = tenants.flatMap((tenant) => [4, 4, 32].map((size) => ({ tenant, size })))
  const questions = tenants.flatMap((tenant) => [
    reading(first, id, 4 * KiB),
    reading(first, id, 4 * KiB),
    reading(first, id, 4 * KiB),
    describing(first, id),
    listing(tenant, { limit: "20" }),
    beating(tenant),
    describing(first, id),
    quotaOf(tenant),
  ])
  const change = async () => {
    const { made } = await must(
      { load: changing },
      {
        ports,
        clients: 8,
        seconds: 3600,
        atMost: Math.ceil(requests / 10),
        keepIds: true,
        requests: publishes.map(({ size, tenant }) => publishing(tenant, size * KiB)),
      },
    )
    const deletes = made.flatMap(({ id, index }) => {
      const tenant = publishes[index]?.tenant
      return tenant === undefined ? [] : [deleting(tenant, id)]
    })
    await must({ load: changing }, { ports, clients: 8, seconds: 3600, once: true, requests: deletes })
  }
  const ask = () =>
    must(
      { load: asking },
      { ports, clients: 16, seconds: 3600, atMost: Math.ceil(requests * 0.8), requests: questions },
    )
  const streams = await Promise.all(
    tenants.flatMap((tenant) => Array.from({ length: streamsEach }, () => openStream(ports[0] ?? 0, tenant))),
  )
  await Promise.all([change(), ask()])
  for (let n = 0; n < 100 && streams.some((stream) => stream.events() === 0); n++) await sleep(50)
  if (streams.some((stream) => stream.events() === 0)) throw new Error("an event stream saw no event")
  for (const stream of streams) stream.end()
}

const mean = (of: ReadonlyArray<number>) => of.reduce((sum, each) => sum + each, 0) / of.length

/** What must be after many requests as it was after the first of them; a fault where something only grows. */
const compare = (bench: Bench, { name }: Site["stack"], samples: ReadonlyArray<Sample>): void => {
  const second = samples.slice(parts / 4, parts / 2)
  const last = samples.slice((parts / 4) * 3)
  const memory = [second, last].map((of) => mean(of.map((sample) => sample.memory)))
  bench.facts.push({
    name: `${name}: memory of the last quarter against the second`,
    value: ((memory[1] ?? 0) / (memory[0] ?? 1) - 1) * 100,
    unit: "%",
    note: `${bench.options.soak} mixed requests; ${memory.map(Math.round).join(" → ")} MB`,
  })
  const counted = {
    "files open": ({ files }: Sample) => files,
    "connections to Postgres": ({ database }: Sample) => database,
    "connections to Redis": ({ redis }: Sample) => redis,
  }
  for (const [what, of] of Object.entries(counted)) {
    const most = (part: ReadonlyArray<Sample>) => Math.max(...part.map((sample) => of(sample) ?? 0))
    const [before, after] = [most(second), most(last)]
    if (before === 0 && after === 0) continue
    bench.facts.push({ name: `${name}: ${what}`, value: after, unit: "", note: `${before} in the second quarter` })
    if (after > before + leeway) bench.errors.push(`soak, ${name}: ${what} grew from ${before} to ${after}`)
  }
}

const tables = async ({ stack }: Site): Promise<ReadonlyArray<Fact>> => {
  if (stack.databaseUrl === undefined) return []
  const { ages, sizes } = await tablesOf(stack.databaseUrl)
  return [
    { name: `${stack.name}: age of the oldest transaction id`, value: ages.transactions, unit: "" },
    { name: `${stack.name}: age of the oldest multixact`, value: ages.multixacts, unit: "" },
    ...sizes.map(({ bytes, dead, live, table, vacuums }): Fact => ({
      name: `${stack.name}: table ${table}`,
      value: bytes / 1e6,
      unit: "MB",
      note: `${live} live rows, ${dead} dead, ${vacuums} autovacuums`,
    })),
  ]
}

const live = async (bench: Bench, site: Site, changing: Worker, asking: Worker): Promise<void> => {
  const samples: Array<Sample> = []
  for (let part = 0; part < parts; part++) {
    await work(site, changing, asking, bench.options.soak / parts)
    samples.push(await lookAt(site.stack))
  }
  compare(bench, site.stack, samples)
  bench.facts.push(...(await tables(site)))
}

/** A long life of the nodes that the parts share, which have done much by now; all at the same time, for no time is taken. */
export const soak = async (bench: Bench): Promise<void> => {
  const others = [startWorker("load.ts"), startWorker("load.ts"), startWorker("load.ts")] as const
  const lives = [
    { site: bench.production, workers: [bench.load, others[0]] },
    { site: bench.embedded, workers: [others[1], others[2]] },
  ] as const
  try {
    await Promise.all(
      lives
        .filter(({ site }) => site.stack.name.includes(bench.options.match))
        .map(({ site, workers }) => live(bench, site, ...workers)),
    )
  } finally {
    await Promise.all(others.map((other) => other.stop()))
  }
}
