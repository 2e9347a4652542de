import { type Bench, KiB, warmUp } from "../bench.ts"
import { publishing } from "../requests.ts"
import { measure } from "../rounds.ts"
import { startProduction } from "../stacks.ts"

/** What one publish costs all processes together, over 1, 2 and 4 pods that share a database; clients go round them. */
export const pods = async (bench: Bench): Promise<void> => {
  const { quick, rounds, seconds } = bench.options
  /** The same for all, half of what the first number of pods can do: more processes than cores would get in each other's way. */
  let rate: number | undefined
  for (const count of bench.options.pods) {
    const stack = await startProduction({ pods: count })
    try {
      const tenants = await stack.tenants(16)
      const requests = tenants.map((tenant) => publishing(tenant, 4 * KiB))
      await warmUp(bench, { stack, tenants })
      if (rate === undefined) {
        const full = await bench.load.run({
          kind: "http",
          ports: stack.ports,
          clients: 16,
          seconds: quick ? 0.3 : 3,
          requests,
        })
        rate = full.requests / full.seconds / 2
      }
      const job = { kind: "http", ports: stack.ports, clients: 16, requests, rate } as const
      const before = { ...stack.cpuByProcess() }
      const found = await measure(
        {
          title: "publish 4 KiB at half load, by pods",
          bytes: 4 * KiB,
          clients: 16,
          contenders: [
            {
              name: count === 1 ? "1 pod" : `${count} pods`,
              kind: "product",
              cpu: stack.cpu,
              run: (duration) => bench.load.run({ ...job, seconds: duration }),
            },
          ],
        },
        { rounds, seconds: quick ? seconds : 3, warmUpSeconds: 0.1 },
      )
      for (const each of found) {
        console.log(`  ${each.contender}: ${each.median.toFixed(0)}/s, ${each.cpuMicrosPerRequest?.toFixed(0)} µs each`)
        for (const error of each.errors) bench.errors.push(`${each.contender}: ${error}`)
      }
      bench.series.push(...found)
      const after = stack.cpuByProcess()
      const spent = Object.fromEntries(Object.entries(after).map(([who, cpu]) => [who, cpu - (before[who] ?? 0)]))
      const total = Object.values(spent).reduce((sum, cpu) => sum + cpu, 0)
      for (const who of ["postgres", "redis"])
        bench.facts.push({
          name: `CPU share of ${who}, ${count} pods`,
          value: (100 * (spent[who] ?? 0)) / Math.max(1, total),
          unit: "%",
        })
    } finally {
      await stack.dispose()
    }
  }
}
