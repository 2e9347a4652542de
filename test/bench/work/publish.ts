import { join } from "node:path"
import type { Tenant } from "../../faults/plane.ts"
import { type Bench, compare, KiB, label, loadOn, MiB, onStack, type Site, titled } from "../bench.ts"
import { emptyFiles, takesRoom } from "../ceilings.ts"
import type { Peer } from "../peers.ts"
import { formPosting, publishing, putting, tusCreating } from "../requests.ts"
import type { Contender } from "../rounds.ts"

/**
 * What a turn of files that take room writes at the most, roughly, in bytes: so much memory is in hand before it. Large
 * ones are one each, or a few when they come one at a time.
 */
const turnWrites = (bytes: number, clients: number): number =>
  bytes === MiB ? 384 * MiB : Math.max(512 * MiB, bytes * clients + 128 * MiB)

const published = (
  bench: Bench,
  site: Site,
  name: string,
  tenants: ReadonlyArray<Tenant>,
  bytes: number,
  clients: number,
): Contender => {
  const requests = tenants.map((tenant) => publishing(tenant, bytes))
  return {
    ...loadOn(bench, onStack(site, name), { clients, requests }),
    ...(takesRoom(bytes) && { after: async () => emptyFiles(site.stack.filesFolder) }),
  }
}

const peer = (bench: Bench, { cpu, empty, name, port, protocol }: Peer, bytes: number, clients: number): Contender => {
  const requests = [protocol === "tus" ? tusCreating(bytes) : formPosting("/upload", bytes)]
  return {
    ...loadOn(bench, { name, kind: "peer", ports: [port], cpu }, { clients, requests }),
    ...(takesRoom(bytes) && { after: async () => empty() }),
  }
}

const bare = (bench: Bench, what: string, path: string, bytes: number, clients: number): Contender => ({
  ...loadOn(
    bench,
    { name: `bare Node: ${what}`, kind: "ceiling", ports: [bench.bare.port], cpu: bench.bare.cpu },
    { clients, requests: [putting(path, bytes)] },
  ),
  ...(takesRoom(bytes) && { after: async () => bench.bare.empty() }),
})

const durableFiles = ({ filesFolder, loops }: Bench, bytes: number, clients: number): Contender => {
  const folder = join(filesFolder, `durable-${bytes}`)
  return {
    name: "disk: write, fdatasync, rename, sync of the folder",
    kind: "ceiling",
    ...(takesRoom(bytes) && { after: async () => emptyFiles(folder) }),
    run: (seconds) => loops.run({ kind: "durable-files", folder, bytes, clients, seconds }),
  }
}

const hashing = ({ loops }: Bench, bytes: number): Contender => ({
  name: "sha256 of the same bytes",
  kind: "ceiling",
  run: (seconds) => loops.run({ kind: "sha256", bytes, seconds }),
})

const inserts = ({ loops, production }: Bench, clients: number): ReadonlyArray<Contender> => {
  const { databaseUrl } = production.stack
  if (databaseUrl === undefined) return []
  return [
    {
      name: "Postgres: one insert a transaction, 10 connections",
      kind: "ceiling",
      run: (seconds) => loops.run({ kind: "inserts", databaseUrl, clients: Math.min(10, clients), seconds }),
    },
  ]
}

/** Publishing, beside what receives, hashes, writes or inserts alone, and beside other upload servers. */
export const publish = async (bench: Bench): Promise<void> => {
  const { embedded, peers, production } = bench
  const { quick } = bench.options
  const plan: ReadonlyArray<readonly [bytes: number, clients: ReadonlyArray<number>]> = quick
    ? [
        [4 * KiB, [16]],
        [MiB, [4]],
        [64 * MiB, [1]],
      ]
    : [
        [4 * KiB, [1, 16, 64]],
        [64 * KiB, [16]],
        [MiB, [16]],
        [64 * MiB, [1, 16]],
        [512 * MiB, [1]],
      ]
  for (const [bytes, concurrencies] of plan)
    for (const clients of concurrencies) {
      const ours = (site: Site, name: string, count: number) =>
        published(bench, site, name, site.tenants.slice(0, count), bytes, clients)
      const large = bytes >= 16 * MiB
      const allPeers = clients === 16 && !large
      const tus = !large || (bytes === 64 * MiB && clients === 1)
      const ceilings = large
        ? [
            bare(bench, "hash, write", "/store", bytes, clients),
            bare(bench, "hash, write, sync", "/store-sync", bytes, clients),
            ...(clients === 1 ? [hashing(bench, bytes)] : []),
          ]
        : [
            ...(clients === 16 && bytes !== 64 * KiB ? [bare(bench, "drain", "/drain", bytes, clients)] : []),
            bare(bench, "hash, write, sync", "/store-sync", bytes, clients),
            ...(bytes === MiB ? [hashing(bench, bytes)] : []),
            ...(bytes === 4 * KiB && clients === 16
              ? [durableFiles(bench, bytes, clients), ...inserts(bench, clients)]
              : []),
          ]
      const warm = async () => void (await bench.loops.ask({ kind: "warm-memory", bytes: turnWrites(bytes, clients) }))
      await compare(bench, {
        title: titled(`publish ${label(bytes)}`, clients),
        bytes,
        clients,
        contenders: [
          ...(bytes === 4 * KiB && clients > 1 ? [ours(production, "production, one project", 1)] : []),
          ours(production, large || clients === 1 ? "production" : "production, 16 projects", large ? 1 : 16),
          ...(clients === (large ? 1 : 16) && bytes <= 64 * MiB ? [ours(embedded, "embedded", large ? 1 : 16)] : []),
          ...peers
            .filter(({ protocol }) => allPeers || (tus && protocol === "tus"))
            .map((each) => peer(bench, each, bytes, clients)),
          ...ceilings,
        ].map((each) => (takesRoom(bytes) && !quick ? { ...each, before: warm } : each)),
      })
    }
}
