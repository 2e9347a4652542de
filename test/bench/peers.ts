import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { privateDir, sleep, spawnRecorded } from "../support/processes.ts"
import { emptyFiles } from "./ceilings.ts"
import { type CpuMicros, cpuMicros } from "../support/procfs.ts"
import { startWorker } from "./worker.ts"

export interface Peer {
  readonly name: string
  readonly protocol: "tus" | "form"
  readonly port: number
  cpu(): CpuMicros
  /** Empties what it stored that takes room. */
  empty(): void
  stop(): Promise<void>
}

export interface NotRun {
  readonly name: string
  readonly reason: string
}

const known = [
  { which: "tus", title: "@tus/server", protocol: "tus", packages: ["@tus/server", "@tus/file-store"] },
  { which: "multer", title: "express + multer", protocol: "form", packages: ["express", "multer"] },
] as const

/** Peers that no registry of npm's has. */
const elsewhere: ReadonlyArray<NotRun> = [{ name: "supabase/storage", reason: "not on npm" }]

const patienceMs = 90_000

/** The environment goes along: it may say how the registry is reached. */
const install = async (folder: string, packages: ReadonlyArray<string>): Promise<void> => {
  const args = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", ...packages]
  const npm = await spawnRecorded("npm", args, { cwd: folder, env: process.env })
  await Promise.race([npm.ended, sleep(patienceMs)])
  const late = npm.running()
  await npm.end("SIGKILL")
  if (late) throw new Error(`npm took longer than ${patienceMs / 1000} s`)
  if (npm.child.exitCode !== 0) throw new Error(`npm failed: ${npm.logs().slice(-200)}`)
}

/** Other upload servers, installed into a temporary folder that goes with them. One that cannot be had is named. */
export const startPeers = async (): Promise<{
  readonly peers: ReadonlyArray<Peer>
  readonly notRun: ReadonlyArray<NotRun>
  stop(): Promise<void>
}> => {
  const home = privateDir("bench-peers")
  const peers: Array<Peer> = []
  const notRun = [...elsewhere]
  for (const { packages, protocol, title, which } of known) {
    const folder = join(home.path, which)
    const storage = join(home.path, `${which}-storage`)
    mkdirSync(folder)
    writeFileSync(join(folder, "package.json"), '{"private": true}')
    try {
      await install(folder, packages)
      const worker = startWorker("peer.ts", [which, folder, storage])
      const { port } = (await worker.announced) as { port: number }
      const { version } = JSON.parse(readFileSync(join(folder, "node_modules", packages[0], "package.json"), "utf8"))
      peers.push({
        name: `${title} ${version}`,
        protocol,
        port,
        cpu: () => ({ server: cpuMicros(worker.pid) }),
        empty: () => emptyFiles(storage),
        stop: worker.stop,
      })
    } catch (error) {
      notRun.push({ name: title, reason: String(error).slice(0, 300) })
    }
  }
  return {
    peers,
    notRun,
    stop: async () => {
      await Promise.all(peers.map((peer) => peer.stop()))
      home.remove()
    },
  }
}
