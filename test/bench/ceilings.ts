import { closeSync, ftruncateSync, openSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { freePort } from "../support/ports.ts"
import { inPath, privateDir, run, spawnRecorded, waitForHttp200 } from "../support/processes.ts"
import { type CpuMicros, cpuMicros } from "../support/procfs.ts"
import { startWorker } from "./worker.ts"

/** A server that answers HTTP on loopback, with files to send and a folder to fill. */
export interface BareServer {
  readonly name: string
  readonly port: number
  cpu(): CpuMicros
  stop(): Promise<void>
}

/** Whether what a turn stored is given up after it; see the README. */
export const takesRoom = (bytes: number): boolean => bytes >= 1024 * 1024

/** Cuts to nothing what takes room in a folder and those below it; with a prefix, of files whose names begin so. */
export const emptyFiles = (folder: string, prefix = ""): void => {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.startsWith(prefix)) continue
    const path = join(entry.parentPath, entry.name)
    // A node may be tidying up meanwhile.
    const found = statSync(path, { throwIfNoEntry: false })
    if (found !== undefined && takesRoom(found.size)) truncateSync(path)
  }
}

export interface BareNode extends BareServer {
  /** Empties what it stored that takes room. */
  empty(): void
}

/** A folder with one file of each size, named by it. */
export const filesToSend = (sizes: ReadonlyArray<number>): { readonly path: string; remove(): void } => {
  const home = privateDir("bench-files")
  for (const size of sizes) {
    const file = openSync(join(home.path, String(size)), "w", 0o644)
    ftruncateSync(file, 0)
    const block = Buffer.alloc(Math.min(size, 1024 * 1024), 0x5a)
    for (let at = 0; at < size; at += block.length)
      writeFileSync(file, block.subarray(0, Math.min(block.length, size - at)))
    closeSync(file)
  }
  return home
}

export const startBareNode = async (folder: string): Promise<BareNode> => {
  const worker = startWorker("bare.ts", [folder])
  const { port } = (await worker.announced) as { port: number }
  return {
    name: "bare Node",
    port,
    cpu: () => ({ server: cpuMicros(worker.pid) }),
    empty: () => emptyFiles(folder, "stored-"),
    stop: worker.stop,
  }
}

const install = async (): Promise<string | undefined> => {
  if (inPath("nginx")) return undefined
  if (process.getuid?.() !== 0 || !inPath("apt-get")) return "not in PATH, and no apt-get with root rights"
  // The package would start a server of its own on the well-known port.
  const env = { PATH: process.env["PATH"], DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" }
  try {
    await run("apt-get", ["install", "-y", "--no-install-recommends", "nginx-light"], { env })
    return undefined
  } catch (error) {
    return `could not be installed: ${String(error).slice(-200)}`
  }
}

const configuration = (home: string, folder: string, port: number) => `
daemon off;
master_process off;
${process.getuid?.() === 0 ? "user root;" : ""}
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  server {
    listen 127.0.0.1:${port};
    location /files/ { alias ${folder}/; }
    location /ready { return 200 "ok"; }
  }
}
`

/** nginx with sendfile, as one process, or why there is none. */
export const startNginx = async (folder: string): Promise<BareServer | string> => {
  const missing = await install()
  if (missing !== undefined) return missing
  const home = privateDir("bench-nginx")
  const port = await freePort()
  const config = join(home.path, "nginx.conf")
  writeFileSync(config, configuration(home.path, folder, port))
  const server = await spawnRecorded("nginx", ["-c", config, "-p", home.path])
  await waitForHttp200(server, `http://127.0.0.1:${port}/ready`)
  return {
    name: "nginx",
    port,
    cpu: () => ({ server: cpuMicros(server.pid) }),
    stop: async () => {
      await server.end("SIGTERM")
      home.remove()
    },
  }
}
