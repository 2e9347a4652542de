import { type Bench, KiB, must, type Site } from "../bench.ts"
import { residentBytes } from "../procfs.ts"
import { describing, publishing, reading } from "../requests.ts"
import { startWorker, type Worker } from "../worker.ts"
import { makeArtifact } from "./read.ts"

const parts = 20

/** Whether memory after many requests is what it was after the first of them. */
const slope = async (bench: Bench, site: Site, load: Worker): Promise<void> => {
  const { name, nodes, ports } = site.stack
  const { soak } = bench.options
  const id = await makeArtifact({ load }, site, 4 * KiB)
  const requests = site.tenants
    .slice(0, 1)
    .flatMap((tenant) => [
      publishing(tenant, 4 * KiB),
      ...Array.from({ length: 8 }, () => reading(tenant, id, 4 * KiB)),
      describing(tenant, id),
    ])
  const samples: Array<number> = []
  for (let part = 0; part < parts; part++) {
    await must({ load }, { ports, clients: 16, seconds: 3600, atMost: Math.ceil(soak / parts), requests })
    samples.push(residentBytes(nodes[0]?.pid ?? 0) / 1e6)
  }
  const mean = (of: ReadonlyArray<number>) => of.reduce((sum, each) => sum + each, 0) / of.length
  const second = mean(samples.slice(parts / 4, parts / 2))
  const last = mean(samples.slice((parts / 4) * 3))
  bench.facts.push({
    name: `${name}: memory of the last quarter against the second`,
    value: (last / second - 1) * 100,
    unit: "%",
    note: `${soak} requests (1 publish, 8 reads, 1 metadata in 10); ${Math.round(second)} → ${Math.round(last)} MB`,
  })
}

/** Memory of the nodes that the parts share, which have done much by now; both at the same time, for no time is taken. */
export const soak = async (bench: Bench): Promise<void> => {
  const other = startWorker("load.ts")
  try {
    await Promise.all([slope(bench, bench.production, bench.load), slope(bench, bench.embedded, other)])
  } finally {
    await other.stop()
  }
}
