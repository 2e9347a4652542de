import { sleep } from "../../support/processes.ts"
import { type Bench, MiB, must, type Site } from "../bench.ts"
import { emptyFiles } from "../ceilings.ts"
import { forgetPeak, peakBytes, residentBytes } from "../../support/procfs.ts"
import { publishing } from "../requests.ts"
import { spread } from "../rounds.ts"

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
  await sleep(quick ? 200 : 2000)
  const idle = residentBytes(pid)
  forgetPeak(pid)
  const large = site.tenants.map((tenant) => publishing(tenant, bytes))
  const { requests, seconds } = await must(bench, { ports, clients, seconds: 0.001, requests: large })
  emptyFiles(site.stack.filesFolder)
  const note = `${clients} uploads of ${bytes / MiB} MiB at once`
  bench.facts.push(
    { name: `${name}: idle memory`, value: megabytes(idle), unit: "MB" },
    { name: `${name}: memory over idle at its highest`, value: megabytes(peakBytes(pid) - idle), unit: "MB", note },
    { name: `${name}: those uploads together`, value: megabytes(requests * bytes) / seconds, unit: "/s", note: "MB" },
  )
}

/** Start and memory, before anything else makes use of the nodes that the parts share. */
export const node = async (bench: Bench): Promise<void> => {
  for (const site of [bench.production, bench.embedded]) await uploads(bench, site)
  await coldStarts(bench)
}
