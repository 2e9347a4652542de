import { type Bench, KiB, must } from "../bench.ts"
import { publishing, putting } from "../requests.ts"
import { type Contender, measure } from "../rounds.ts"
import { startProduction } from "../stacks.ts"

const eachAsMuch = "publish 4 KiB, as much for each pod, by pods"
const asMuchInAll = "publish 4 KiB, as much in all, by pods"

export const podGroups = [eachAsMuch, asMuchInAll]

/**
 * What one publish costs all processes together over 1, 2 and 4 pods of one cluster, which grows: the pods that come are
 * warmed up, those that are there have run longer. With as much for each pod: what is paid for capacity that is added, a
 * tenth of the full load of one. With as much in all, half of that load: what is paid for spreading the same work; bare
 * Node with what one of the pods gets shows how much of that is the machine's, for a process that sleeps costs its
 * waking. More would be processes in each other's way, for there are more than cores.
 */
export const pods = async (bench: Bench): Promise<void> => {
  const { quick, rounds, seconds } = bench.options
  const bare = { ports: [bench.bare.port], clients: 16, requests: [putting("/store-sync", 4 * KiB)] }
  let full: number | undefined
  await must(bench, { ...bare, seconds: 60, atMost: quick ? 32 : 3000 })
  const stack = await startProduction({ clustered: true })
  try {
    const requests = (await stack.tenants(16)).map((tenant) => publishing(tenant, 4 * KiB))
    let warm = 0
    for (const count of bench.options.pods) {
      await stack.grow(count)
      const cold = stack.ports.slice(warm)
      const most = (quick ? 32 : 2000) * cold.length
      await must(bench, { ports: cold, clients: 16 * cold.length, seconds: 60, atMost: most, requests })
      warm = count
      if (full === undefined) {
        const job = { kind: "http", ports: stack.ports, clients: 16, seconds: quick ? 0.3 : 2, requests } as const
        const { requests: done, seconds: took } = await bench.load.run(job)
        full = done / took
      }
      for (const [title, rate] of [
        [eachAsMuch, (full / 10) * count],
        [asMuchInAll, full / 2],
      ] as const) {
        const clients = 16 * count
        const job = { kind: "http", ports: stack.ports, clients, requests, rate } as const
        const ours: Contender = {
          name: count === 1 ? "1 pod" : `${count} pods`,
          kind: "product",
          cpu: stack.cpu,
          run: (duration) => bench.load.run({ ...job, seconds: duration }),
        }
        const share: Contender = {
          name: `bare Node, hash, write, sync: what one of ${count} gets`,
          kind: "ceiling",
          cpu: bench.bare.cpu,
          run: (duration) => bench.load.run({ kind: "http", ...bare, rate: rate / count, seconds: duration }),
        }
        const found = await measure(
          { title, bytes: 4 * KiB, clients, contenders: title === asMuchInAll ? [ours, share] : [ours] },
          { rounds, seconds: quick ? seconds : 1, warmUpSeconds: () => 0.1 },
        )
        for (const each of found) {
          console.log(
            `  ${title}: ${each.contender}: ${each.median.toFixed(0)}/s, ${each.cpuMicrosPerRequest?.toFixed(0)} µs each`,
          )
          for (const error of each.errors) bench.errors.push(`${each.contender}: ${error}`)
        }
        bench.series.push(...found)
      }
    }
  } finally {
    await stack.dispose()
  }
}
