import type { Tenant } from "../faults/plane.ts"
import type { BareNode, BareServer } from "./ceilings.ts"
import type { HttpJob, JobResult, Made, RequestSpec } from "./jobs.ts"
import type { Options } from "./options.ts"
import type { NotRun, Peer } from "./peers.ts"
import type { CpuMicros } from "../support/procfs.ts"
import { deleting, describing, formPosting, getting, publishing, putting, reading, tusCreating } from "./requests.ts"
import { type Contender, type Group, measure, type Series } from "./rounds.ts"
import type { Stack } from "./stacks.ts"
import type { Worker } from "./worker.ts"

export const KiB = 1024
export const MiB = 1024 * KiB

export const label = (bytes: number) => (bytes >= MiB ? `${bytes / MiB} MiB` : `${bytes / KiB} KiB`)

/** How a group is called: the work and how many do it at once. */
export const titled = (work: string, clients: number) => `${work}, ${clients} ${clients === 1 ? "client" : "clients"}`

/** One measured value that is not a rate of requests. */
export interface Fact {
  readonly name: string
  readonly value: number
  readonly unit: "s" | "ms" | "MB" | "µs" | "%" | "/s" | "×" | ""
  readonly min?: number
  readonly max?: number
  readonly note?: string
}

export interface Site {
  readonly stack: Stack
  /** Sixteen projects with a claim each. */
  readonly tenants: ReadonlyArray<Tenant>
}

/** What a run has at hand, and where its results go. */
export interface Bench {
  readonly options: Options
  /** The production stack's Postgres, see describeServer. */
  readonly database: string
  readonly load: Worker
  readonly loops: Worker
  readonly production: Site
  readonly embedded: Site
  readonly bare: BareNode
  readonly nginx: BareServer | undefined
  readonly peers: ReadonlyArray<Peer>
  /** The contenders, by name, that have carried a large payload. */
  readonly warm: Set<string>
  /** Holds one file of each size, named by it. */
  readonly filesFolder: string
  readonly series: Array<Series>
  readonly facts: Array<Fact>
  readonly notRun: Array<NotRun>
  readonly errors: Array<string>
}

/**
 * Measures a group at the run's pace. All servers have been warmed up; a group begins with a short turn for its
 * connections and its kind of payload. Of large payloads one request takes as long as a turn: fewer rounds, and no turn
 * before them but the first.
 */
export const compare = async (bench: Bench, group: Group, pace: { readonly seconds?: number } = {}): Promise<void> => {
  const { match, rounds, seconds } = bench.options
  if (!group.title.includes(match)) return
  const large = group.bytes >= 16 * MiB
  const began = performance.now()
  const warm = (name: string) => large && bench.warm.has(name)
  const found = await measure(group, {
    rounds: large ? Math.min(rounds, 3) : rounds,
    seconds: pace.seconds ?? seconds,
    warmUpSeconds: ({ name }) => (warm(name) ? 0 : large ? 0.1 : 0.2),
  })
  if (large) for (const { name } of group.contenders) bench.warm.add(name)
  for (const each of found) {
    console.log(
      `  ${group.title}: ${each.contender}: ${each.median.toFixed(1)}/s (${each.min.toFixed(1)}–${each.max.toFixed(1)})` +
        `${each.errorCount > 0 ? `, ${each.errorCount} ERRORS` : ""}`,
    )
    for (const error of each.errors) bench.errors.push(`${group.title}, ${each.contender}: ${error}`)
  }
  bench.series.push(...found)
  console.log(`  (${((performance.now() - began) / 1000).toFixed(1)} s)`)
}

/** A job that is no measurement: any error ends the run. */
export const must = async ({ load }: Pick<Bench, "load">, job: Omit<HttpJob, "kind">): Promise<JobResult> => {
  const result = await load.run({ kind: "http", ...job })
  if (result.errorCount > 0) throw new Error(`preparing failed ${result.errorCount} times: ${result.errors[0]}`)
  return result
}

/**
 * A process compiles what it runs often only after thousands of requests; one that serves for days has done so. The
 * same for all: so many requests, or so many seconds.
 */
const enough = ({ quick }: Options) => (quick ? { atMost: 32, seconds: 1 } : { atMost: 5000, seconds: 6 })

/** Warms servers up that are not the product. */
export const warmUpOthers = async (bench: Bench): Promise<void> => {
  const { bare, peers } = bench
  const send = (port: number, request: RequestSpec) =>
    must(bench, { ports: [port], clients: 16, ...enough(bench.options), requests: [request] })
  await send(bare.port, putting("/store-sync", 4 * KiB))
  await send(bare.port, getting(`/files/${4 * KiB}`, 4 * KiB))
  for (const { port, protocol } of peers)
    await send(port, protocol === "tus" ? tusCreating(4 * KiB) : formPosting("/upload", 4 * KiB))
}

/** Warms each of a stack's nodes up. */
export const warmUp = async (bench: Bench, { stack, tenants }: Site): Promise<void> => {
  const nodes = stack.ports.length
  const { ports } = stack
  const { atMost: each, seconds } = enough(bench.options)
  const most = each * nodes
  const publishes = tenants.map((tenant) => publishing(tenant, 4 * KiB))
  const { made } = await must(bench, {
    ports,
    clients: 16,
    seconds: seconds * nodes,
    atMost: most,
    keepIds: true,
    requests: publishes,
  })
  const reads = made.slice(0, 16).flatMap(({ id, index }) => {
    const tenant = tenants[index]
    return tenant === undefined ? [] : [reading(tenant, id, 4 * KiB), describing(tenant, id)]
  })
  await must(bench, { ports, clients: 16, seconds: (seconds * nodes) / 4, atMost: most, requests: reads })
}

/** The requests of one server, as a contender. */
export const loadOn = (
  bench: Bench,
  who: Pick<Contender, "name" | "kind"> & { readonly cpu?: () => CpuMicros; readonly ports: ReadonlyArray<number> },
  job: { readonly clients: number; readonly requests: ReadonlyArray<RequestSpec>; readonly keepIds?: boolean },
): Contender => ({
  name: who.name,
  kind: who.kind,
  ...(who.cpu && { cpu: who.cpu }),
  run: (seconds) => bench.load.run({ kind: "http", ports: who.ports, seconds, ...job }),
})

export const onStack = ({ stack }: Site, name = stack.name) => ({
  name,
  kind: "product" as const,
  ports: stack.ports,
  cpu: stack.cpu,
})

/** Deletes what requests of these tenants, in the order of the job, have made. */
export const removeMade = async (
  bench: Bench,
  site: Site,
  tenants: ReadonlyArray<Tenant>,
  made: ReadonlyArray<Made>,
) => {
  if (made.length === 0) return
  await must(bench, {
    ports: site.stack.ports,
    clients: 8,
    seconds: 600,
    once: true,
    requests: made.flatMap(({ id, index }) => {
      const tenant = tenants[index]
      return tenant === undefined ? [] : [deleting(tenant, id)]
    }),
  })
}
