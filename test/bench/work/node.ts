import { sleep } from "../../support/processes.ts"
import { type Bench, KiB, MiB, must, type Site } from "../bench.ts"
import { forgetPeak, peakBytes, residentBytes } from "../procfs.ts"
import { describing, publishing, reading } from "../requests.ts"
import { spread } from "../rounds.ts"
import { startEmbedded, startProduction, type Stack } from "../stacks.ts"
import { makeArtifact } from "./read.ts"

const megabytes = (bytes: number) => bytes / 1e6

const coldStarts = async ({ facts, options, production }: Bench): Promise<void> => {
  const times: Array<number> = []
  for (let turn = 0; turn < (options.quick ? 1 : 3); turn++) times.push(await production.stack.coldStart())
  const { max, median, min } = spread(times)
  facts.push({ name: "cold start of a production node to ready", value: median, min, max, unit: "s" })
}

/** The highest memory over idle while 64 uploads run at once: production's of 128 MiB, the embedded node's of 32. */
const uploads = async (bench: Bench, site: Site): Promise<void> => {
  const { name, nodes, ports } = site.stack
  const pid = nodes[0]?.pid ?? 0
  const { quick } = bench.options
  const [clients, bytes] = quick ? [8, 8 * MiB] : [64, (name === "embedded" ? 32 : 128) * MiB]
  const small = site.tenants.map((tenant) => publishing(tenant, 4 * KiB))
  await must(bench, { ports, clients: 16, seconds: 60, atMost: quick ? 64 : 1000, requests: small })
  await sleep(quick ? 200 : 2000)
  const idle = residentBytes(pid)
  forgetPeak(pid)
  const large = site.tenants.map((tenant) => publishing(tenant, bytes))
  const { requests, seconds } = await must(bench, { ports, clients, seconds: 0.001, requests: large })
  const note = `${clients} uploads of ${bytes / MiB} MiB at once`
  bench.facts.push(
    { name: `${name}: idle memory`, value: megabytes(idle), unit: "MB" },
    { name: `${name}: memory over idle at its highest`, value: megabytes(peakBytes(pid) - idle), unit: "MB", note },
    { name: `${name}: those uploads together`, value: megabytes(requests * bytes) / seconds, unit: "/s", note: "MB" },
  )
}

/** Whether memory after many requests is what it was after the first of them. */
const soak = async (bench: Bench, site: Site): Promise<void> => {
  const { name, nodes, ports } = site.stack
  const pid = nodes[0]?.pid ?? 0
  const id = await makeArtifact(bench, site, 4 * KiB)
  const requests = site.tenants
    .slice(0, 1)
    .flatMap((tenant) => [
      publishing(tenant, 4 * KiB),
      ...Array.from({ length: 8 }, () => reading(tenant, id, 4 * KiB)),
      describing(tenant, id),
    ])
  const parts = 20
  const samples: Array<number> = []
  for (let part = 0; part < parts; part++) {
    await must(bench, { ports, clients: 16, seconds: 3600, atMost: Math.ceil(bench.options.soak / parts), requests })
    samples.push(residentBytes(pid))
  }
  const mean = (of: ReadonlyArray<number>) => of.reduce((sum, each) => sum + each, 0) / of.length
  const second = mean(samples.slice(parts / 4, parts / 2))
  const last = mean(samples.slice((parts / 4) * 3))
  bench.facts.push({
    name: `${name}: memory of the last quarter against the second`,
    value: (last / second - 1) * 100,
    unit: "%",
    note: `${bench.options.soak} requests (1 publish, 8 reads, 1 metadata in 10); ${Math.round(megabytes(second))} → ${Math.round(megabytes(last))} MB`,
  })
}

/** Start and memory, on stacks of their own: one that has run for minutes is not idle. */
export const node = async (bench: Bench): Promise<void> => {
  await coldStarts(bench)
  if (bench.options.quick) {
    for (const site of [bench.production, bench.embedded]) {
      await uploads(bench, site)
      await soak(bench, site)
    }
    return
  }
  const sites = [startProduction, startEmbedded] as ReadonlyArray<() => Promise<Stack>>
  for (const start of sites) {
    const stack = await start()
    try {
      const site: Site = { stack, tenants: await stack.tenants(16) }
      await uploads(bench, site)
      await soak(bench, site)
    } finally {
      await stack.dispose()
    }
  }
}
