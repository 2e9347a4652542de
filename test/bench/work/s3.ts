import { join } from "node:path"
import { orNotRun } from "../../support/backends.ts"
import { startRgw } from "../../support/rgw.ts"
import { type Bench, compare, KiB, label, loadOn, MiB, onStack, removeMade, type Site, warmUp } from "../bench.ts"
import { publishing, reading } from "../requests.ts"
import type { Contender } from "../rounds.ts"
import { startProduction } from "../stacks.ts"
import { makeArtifact } from "./read.ts"

/** A production node over a real S3 server, beside the SDK alone in a process of its own. */
export const s3 = async (bench: Bench): Promise<void> => {
  const server = await orNotRun("S3 benchmark", startRgw)
  if (server === null) {
    bench.notRun.push({ name: "production, S3", reason: "no S3 server on this machine" })
    return
  }
  const { accessKeyId, bucket, endpoint, region, secretAccessKey } = server
  const { options } = bench
  const profileFolder = options.profile ? join(options.out, "profile-s3") : undefined
  const stack = await startProduction({ s3: server, profileFolder })
  try {
    const site: Site = { stack, tenants: await stack.tenants(16) }
    await warmUp(bench, site)
    for (const [bytes, clients] of [
      [4 * KiB, 16],
      [64 * MiB, 4],
    ] as const) {
      const direct = (kind: "s3-put" | "s3-get"): Contender => ({
        name: "the SDK alone",
        kind: "ceiling",
        run: (seconds) =>
          bench.loops.run({
            kind,
            accessKeyId,
            bucket,
            endpoint,
            region,
            secretAccessKey,
            bytes,
            clients,
            seconds,
          }),
      })
      await compare(bench, {
        title: `S3: publish ${label(bytes)}, ${clients} clients`,
        bytes,
        clients,
        contenders: [
          {
            ...loadOn(bench, onStack(site), {
              clients,
              keepIds: true,
              requests: site.tenants.map((tenant) => publishing(tenant, bytes)),
            }),
            after: (made) => removeMade(bench, site, site.tenants, made),
          },
          direct("s3-put"),
        ],
      })
      const id = await makeArtifact(bench, site, bytes)
      await compare(bench, {
        title: `S3: read ${label(bytes)}, ${clients} clients`,
        bytes,
        clients,
        contenders: [
          loadOn(bench, onStack(site), {
            clients,
            requests: site.tenants.slice(0, 1).map((tenant) => reading(tenant, id, bytes)),
          }),
          direct("s3-get"),
        ],
      })
    }
  } finally {
    await stack.dispose()
    await server.stop()
  }
}
