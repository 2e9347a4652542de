import { freePort } from "../../support/ports.ts"
import type { PostgresServer } from "../../support/postgres.ts"
import type { RedisServer } from "../../support/redis.ts"
import { sleep } from "../../support/processes.ts"
import { settle } from "../audit.ts"
import { insidesOfServers } from "../insides.ts"
import { type Load, startLoad } from "../load.ts"
import { watchSlowness } from "../outages.ts"
import { type Plane, startPlane } from "../plane.ts"
import { type Probe, type Probed, startProbe } from "./probe.ts"

/** A plane of one pod of a cluster, whose sweeps come soon. */
export const startFailoverPlane = async (
  extra: Record<string, string>,
  running: { readonly postgres?: PostgresServer; readonly redis?: RedisServer },
): Promise<Plane> =>
  startPlane(
    {
      SWEEP_SECONDS: "1",
      ABANDONED_AFTER_SECONDS: "12",
      ORPHAN_SWEEP_SECONDS: "3",
      ORPHAN_AGE_SECONDS: "5",
      ORPHAN_CONFIRM_SECONDS: "2",
      RUNNER_HOST: "127.0.0.1",
      RUNNER_PORT: String(await freePort()),
      ...extra,
    },
    { running },
  )

export interface Failover {
  readonly load: Load
  readonly probe: Probe
  readonly probes: ReadonlyArray<Probed>
  /** Milliseconds from the new server's first answer to the first publish begun after it that was acknowledged. */
  readonly backAfter: number
  /** The longest that a publish went without an answer, and what of that is the machine's: the longest before. */
  readonly slowest: number
  readonly calm: number
}

const longest = (probes: ReadonlyArray<Probed>) => Math.max(0, ...probes.map(({ begun, ended }) => ended - begun))

/** Clients at work; the server is lost and replaced; clients at work again. `replace` returns when the new one answered. */
export const failover = async (plane: Plane, replace: () => Promise<number>): Promise<Failover> => {
  const target = () => ({ baseUrl: plane.node().baseUrl, adminKey: plane.adminKey })
  const load = await startLoad({ target, seed: 5, clients: 8, pause: 20 })
  const probe = await startProbe(plane)
  await sleep(2500)
  const slowness = watchSlowness(plane)
  const lost = Date.now()
  const answered = await replace()
  await sleep(5000)
  const probes = await probe.stop()
  const slow = await slowness()
  await load.stop()
  const served = probes.filter(({ acknowledged, begun }) => acknowledged && begun >= answered)
  return {
    load,
    probe,
    probes,
    backAfter: Math.min(...served.map(({ ended }) => ended)) - answered,
    slowest: longest(probes),
    calm: longest(probes.filter(({ ended }) => ended < lost)) + slow,
  }
}

/** What the audit of everything finds that does not hold. */
export const auditAfter = async (
  plane: Plane,
  urls: { readonly postgres: string; readonly redis: string },
  { load, probe }: Failover,
) => {
  const { blobs, streamKey } = plane
  const insides = insidesOfServers({ postgresUrl: urls.postgres, redisUrl: urls.redis, streamKey, blobs })
  const target = { baseUrl: plane.node().baseUrl, adminKey: plane.adminKey }
  const found = await settle(target, insides, [...load.models, probe.model], 60_000)
  return { ...found, faults: [...load.chronicle.faults, ...found.sentences] }
}
