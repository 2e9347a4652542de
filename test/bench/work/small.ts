import { type Bench, compare, KiB, loadOn, must, onStack, type Site } from "../bench.ts"
import type { RequestSpec } from "../jobs.ts"
import { deleting, describing, publishing, signing } from "../requests.ts"
import type { Contender } from "../rounds.ts"
import { makeArtifact } from "./read.ts"

const clients = 16

const deletes = (bench: Bench, site: Site, count: number): Contender => {
  const { stack, tenants } = site
  let requests: ReadonlyArray<RequestSpec> = []
  return {
    name: stack.name,
    kind: "product",
    cpu: stack.cpu,
    before: async () => {
      const { made } = await must(bench, {
        ports: stack.ports,
        clients,
        seconds: 600,
        atMost: count,
        keepIds: true,
        requests: tenants.map((tenant) => publishing(tenant, 4 * KiB)),
      })
      requests = made.flatMap(({ id, index }) => {
        const tenant = tenants[index]
        return tenant === undefined ? [] : [deleting(tenant, id)]
      })
    },
    run: () => bench.load.run({ kind: "http", ports: stack.ports, clients, seconds: 600, once: true, requests }),
  }
}

/** The calls that carry no bytes. */
export const small = async (bench: Bench): Promise<void> => {
  const sites = [bench.production, bench.embedded]
  const ids = new Map<Site, string>()
  for (const site of sites) ids.set(site, await makeArtifact(bench, site, 4 * KiB))
  const each = (title: string, request: (site: Site) => ReadonlyArray<RequestSpec>) =>
    compare(bench, {
      title: `${title}, ${clients} clients`,
      bytes: 0,
      clients,
      contenders: sites.map((site) => loadOn(bench, onStack(site), { clients, requests: request(site) })),
    })
  const first = ({ tenants }: Site) => tenants.slice(0, 1)
  await each("metadata", (site) => first(site).map((tenant) => describing(tenant, ids.get(site) ?? "")))
  await each("signed URL", (site) => first(site).map((tenant) => signing(tenant, ids.get(site) ?? "")))
  const count = bench.options.quick ? 32 : 300
  await compare(bench, {
    title: `delete, ${clients} clients`,
    bytes: 0,
    clients,
    contenders: sites.map((site) => deletes(bench, site, count)),
  })
}
