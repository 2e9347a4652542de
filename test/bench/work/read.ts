import { type Bench, compare, KiB, label, loadOn, MiB, must, onStack, type Site, titled } from "../bench.ts"
import type { RequestSpec } from "../jobs.ts"
import { getting, gettingRange, publishing, reading, readingRange } from "../requests.ts"
import type { Contender } from "../rounds.ts"

export const readSizes = (quick: boolean): ReadonlyArray<number> =>
  quick ? [4 * KiB, MiB, 64 * MiB] : [4 * KiB, 64 * KiB, MiB, 64 * MiB, 512 * MiB]

/** One artifact of that size in the stack's first project; returns its id. */
export const makeArtifact = async (
  bench: Pick<Bench, "load">,
  { stack, tenants }: Site,
  bytes: number,
): Promise<string> => {
  const [tenant] = tenants
  if (tenant === undefined) throw new Error("the stack has no project")
  const { made } = await must(bench, {
    ports: stack.ports,
    clients: 1,
    seconds: 60,
    atMost: 1,
    keepIds: true,
    requests: [publishing(tenant, bytes)],
  })
  return made[0]?.id ?? ""
}

/** Offsets all over a file, the same in every run. */
const offsets = (size: number, length: number): ReadonlyArray<number> =>
  Array.from({ length: 256 }, (_, index) => (index * 2_654_435_761) % (size - length))

/** Reading whole files and ranges, with key and visibility check, beside servers that send the same file to anyone. */
export const read = async (bench: Bench): Promise<void> => {
  const { bare, embedded, nginx, production } = bench
  const { quick } = bench.options
  const senders = [bare, ...(nginx ? [nginx] : [])]
  const ours = (site: Site, clients: number, requests: ReadonlyArray<RequestSpec>): Contender =>
    loadOn(bench, onStack(site), { clients, requests })
  const theirs = (clients: number, requests: ReadonlyArray<RequestSpec>, of = senders): ReadonlyArray<Contender> =>
    of.map(({ cpu, name, port }) => loadOn(bench, { name, kind: "ceiling", ports: [port], cpu }, { clients, requests }))

  for (const bytes of readSizes(quick)) {
    const ids = new Map<Site, string>()
    for (const site of [production, embedded]) ids.set(site, await makeArtifact(bench, site, bytes))
    const content = (site: Site) =>
      site.tenants.slice(0, 1).map((tenant) => reading(tenant, ids.get(site) ?? "", bytes))
    const concurrencies = quick ? [16] : bytes > 64 * MiB ? [1] : bytes === 4 * KiB ? [1, 16, 64] : [16]
    for (const clients of concurrencies)
      await compare(bench, {
        title: titled(`read ${label(bytes)}`, clients),
        bytes,
        clients,
        contenders: [
          ours(production, clients, content(production)),
          ...(clients === 16 ? [ours(embedded, clients, content(embedded))] : []),
          ...theirs(clients, [getting(`/files/${bytes}`, bytes)], clients === 16 ? senders : [bare]),
        ],
      })
    if (bytes !== 64 * MiB) continue
    const length = 64 * KiB
    const ranges = (site: Site) =>
      site.tenants
        .slice(0, 1)
        .flatMap((tenant) =>
          offsets(bytes, length).map((from) => readingRange(tenant, ids.get(site) ?? "", from, length)),
        )
    await compare(bench, {
      title: `read ranges of 64 KiB out of 64 MiB, 16 clients`,
      bytes: length,
      clients: 16,
      contenders: [
        ours(production, 16, ranges(production)),
        ours(embedded, 16, ranges(embedded)),
        ...theirs(
          16,
          offsets(bytes, length).map((from) => gettingRange(`/files/${bytes}`, from, length)),
          senders.filter((each) => each === nginx),
        ),
      ],
    })
  }
}
