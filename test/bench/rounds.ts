import type { JobResult, Made } from "./jobs.ts"
import type { CpuMicros } from "../support/procfs.ts"

export type Kind = "product" | "ceiling" | "peer"

export interface Contender {
  readonly name: string
  readonly kind: Kind
  run(seconds: number): Promise<JobResult>
  /** Off the clock: make what the run needs. */
  before?(): Promise<void>
  /** Of its server processes. */
  cpu?(): CpuMicros
  /** Off the clock: throw away what it left behind. */
  after?(made: ReadonlyArray<Made>): Promise<void>
}

/** The same work for several contenders, which take turns. */
export interface Group {
  readonly title: string
  /** Of one request's payload. */
  readonly bytes: number
  readonly clients: number
  readonly contenders: ReadonlyArray<Contender>
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Series extends Spread {
  readonly group: string
  readonly contender: string
  readonly kind: Kind
  readonly bytes: number
  readonly clients: number
  /** Requests a second of each round; median, min and max are theirs. */
  readonly samples: ReadonlyArray<number>
  readonly requests: number
  readonly p50Micros: number
  readonly p99Micros: number
  /** Of the servers; absent where there is none to look at. */
  readonly cpuMicrosPerRequest: number | undefined
  /** The same, apart. */
  readonly cpuMicrosByProcess: CpuMicros
  /** Of one core, of the load generator while it ran. */
  readonly generatorShare: number
  readonly errorCount: number
  readonly errors: ReadonlyArray<string>
}

export interface Pace {
  readonly rounds: number
  readonly seconds: number
  /** 0: none. */
  readonly warmUpSeconds: (contender: Contender) => number
}

export const spread = (samples: ReadonlyArray<number>): Spread => {
  const sorted = samples.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0
  return {
    median: sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2,
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
  }
}

/** Of sorted values. */
export const percentile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0

/** Warms each contender up, then lets them run in turn, round after round: A B C A B C … */
export const measure = async (group: Group, pace: Pace): Promise<ReadonlyArray<Series>> => {
  const taken = group.contenders.map((contender) => ({
    contender,
    samples: new Array<number>(),
    latencies: new Array<number>(),
    errors: new Array<string>(),
    errorCount: 0,
    cpu: new Map<string, number>(),
    generator: 0,
    seconds: 0,
  }))
  const run = async (each: (typeof taken)[number], seconds: number, counted: boolean) => {
    const { contender } = each
    await contender.before?.()
    const before = contender.cpu?.() ?? {}
    const result = await contender.run(seconds)
    if (counted) {
      for (const [who, micros] of Object.entries(contender.cpu?.() ?? {}))
        each.cpu.set(who, (each.cpu.get(who) ?? 0) + micros - (before[who] ?? 0))
      each.samples.push(result.requests / result.seconds)
      for (const latency of result.latencyMicros) each.latencies.push(latency)
      each.generator += result.workerCpuMicros
      each.seconds += result.seconds
    }
    each.errorCount += result.errorCount
    each.errors.push(...result.errors)
    await contender.after?.(result.made)
  }
  for (const each of taken) {
    const seconds = pace.warmUpSeconds(each.contender)
    if (seconds > 0) await run(each, seconds, false)
  }
  for (let round = 0; round < pace.rounds; round++) for (const each of taken) await run(each, pace.seconds, true)
  return taken.map(({ contender, cpu, errorCount, errors, generator, latencies, samples, seconds }) => {
    const sorted = latencies.toSorted((a, b) => a - b)
    const cpuEach = [...cpu].map(([who, micros]) => [who, micros / Math.max(1, sorted.length)] as const)
    return {
      ...spread(samples),
      group: group.title,
      contender: contender.name,
      kind: contender.kind,
      bytes: group.bytes,
      clients: group.clients,
      samples,
      requests: sorted.length,
      p50Micros: percentile(sorted, 0.5),
      p99Micros: percentile(sorted, 0.99),
      cpuMicrosPerRequest: contender.cpu && cpuEach.reduce((sum, [, micros]) => sum + micros, 0),
      cpuMicrosByProcess: Object.fromEntries(cpuEach),
      generatorShare: generator / 1e6 / Math.max(1e-9, seconds),
      errorCount,
      errors: errors.slice(0, 5),
    }
  })
}
