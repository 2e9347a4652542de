import { type Bench, KiB } from "../bench.ts"
import { publishing } from "../requests.ts"
import { percentile } from "../rounds.ts"
import { startWorker } from "../worker.ts"

/** From a publish being due to its event being read from the stream by another process, at half of the full load. */
export const events = async (bench: Bench): Promise<void> => {
  const { stack, tenants } = bench.production
  if (stack.redisUrl === undefined) return
  const requests = tenants.map((tenant) => publishing(tenant, 4 * KiB))
  const job = { kind: "http", ports: stack.ports, clients: 16, requests, keepIds: true } as const
  const { quick } = bench.options
  const full = await bench.load.run({ ...job, seconds: quick ? 0.3 : 2 })
  const rate = full.requests / full.seconds / 2
  const watcher = startWorker("watch.ts")
  try {
    await watcher.ask({ kind: "watch", redisUrl: stack.redisUrl, stream: stack.streamKey })
    const { errorCount, errors, made } = await bench.load.run({ ...job, rate, seconds: quick ? 0.5 : 8 })
    const before = full.made.length
    const seen = new Map(
      (await watcher.ask({ kind: "collect", count: made.length })) as ReadonlyArray<[string, number]>,
    )
    if (full.errorCount + errorCount > 0) bench.errors.push(`events: ${[...full.errors, ...errors].join("; ")}`)
    const missing = made.filter(({ id }) => !seen.has(id)).length
    if (missing > 0) bench.errors.push(`events: ${missing} of ${made.length} were not seen within 5 s`)
    if (before === 0) bench.errors.push("events: nothing was published at full load")
    const report = (name: string, times: ReadonlyArray<number>) => {
      const sorted = times.toSorted((a, b) => a - b)
      for (const [share, title] of [
        [0.5, "p50"],
        [0.99, "p99"],
      ] as const)
        bench.facts.push({
          name: `${name}, ${title}`,
          value: percentile(sorted, share) / 1000,
          unit: "ms",
          note: `${Math.round(rate)} publishes/s, half of the full load`,
        })
    }
    const known = made.flatMap((each) => {
      const at = seen.get(each.id)
      return at === undefined ? [] : [{ ...each, at }]
    })
    report(
      "publish sent → event seen",
      known.map(({ at, dueMicros }) => at - dueMicros),
    )
    report(
      "publish answered → event seen",
      known.map(({ answeredMicros, at }) => Math.max(0, at - answeredMicros)),
    )
    report(
      "publish sent → answered",
      known.map(({ answeredMicros, dueMicros }) => answeredMicros - dueMicros),
    )
  } finally {
    await watcher.stop()
  }
}
