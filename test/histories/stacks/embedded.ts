import { randomBytes } from "node:crypto"
import { cpSync } from "node:fs"
import { join } from "node:path"
import { PGlite } from "@electric-sql/pglite"
import { type Insides, lookBySql } from "../../faults/insides.ts"
import { makePod, type Pod } from "../../pods/support/pod.ts"
import { blobFiles } from "../../support/blobFiles.ts"
import { freePort } from "../../support/ports.ts"
import { privateDir, sleep } from "../../support/processes.ts"
import type { Stack } from "../history.ts"

/** Looks into a copy of the node's folder, which is made while the node stands still: the folder belongs to it alone. */
const insidesOf = (pod: Pod, dataDir: string): Insides => ({
  look: async () => {
    const copy = privateDir("embedded-look")
    try {
      pod.pause()
      let blobs: ReadonlyArray<string>
      try {
        cpSync(join(dataDir, "postgres"), join(copy.path, "postgres"), { recursive: true })
        blobs = blobFiles(dataDir)
      } finally {
        pod.resume()
      }
      const db = await PGlite.create({ dataDir: join(copy.path, "postgres") })
      try {
        const query = async (sql: string) => (await db.query<any>(sql)).rows
        const known = await lookBySql(query)
        const log = await query("select sequence, payload from event_log order by sequence")
        const entries = log.map(({ payload, sequence }) => ({ id: `${sequence}-0`, payload: JSON.parse(payload) }))
        return { ...known, blobs, entries }
      } finally {
        await db.close()
      }
    } finally {
      copy.remove()
    }
  },
})

export const embeddedFaults = ["kill", "freeze"] as const

/** One process with everything in it. */
export const startEmbedded = async (): Promise<Stack> => {
  const home = privateDir("histories")
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const pod = makePod({
    name: "node",
    port: await freePort(),
    env: {
      DATA_DIR: home.path,
      BOOTSTRAP_API_KEY: adminKey,
      LOG_LEVEL: "warning",
      SWEEP_SECONDS: "1",
      ABANDONED_AFTER_SECONDS: "8",
      ORPHAN_SWEEP_SECONDS: "2",
      ORPHAN_AGE_SECONDS: "8",
      ORPHAN_CONFIRM_SECONDS: "2",
    },
  })
  try {
    await pod.start()
  } catch (error) {
    home.remove()
    throw error
  }
  return {
    adminKey,
    pods: [pod.baseUrl],
    insides: insidesOf(pod, home.path),
    wreak: async ({ ms, what }) => {
      if (what === "kill") {
        await pod.kill9()
        return pod.start()
      }
      pod.pause()
      await sleep(ms)
      pod.resume()
    },
    crashed: () => (pod.crashed() ? [pod.name] : []),
    hasten: async () => {},
    logs: () => pod.logs(),
    dispose: async () => {
      await pod.kill9().catch(() => {})
      home.remove()
    },
  }
}
