import type { ChildProcess } from "node:child_process"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { freePort } from "./ports.ts"
import { spawnRecorded, waitForHttp200 } from "./processes.ts"

export interface NodeOptions {
  /** The whole configuration: nothing but PATH and HOME is inherited. HOST, PORT and METRICS_PORT may be given too. */
  readonly env: Readonly<Record<string, string>>
  readonly args?: ReadonlyArray<string>
  /** How many files it may have open; default: as many as this process. */
  readonly openFiles?: number
  /** The folder of the source to run, with node_modules; default: this one. */
  readonly source?: string | undefined
  /** How long until /readyz answers 200, in milliseconds; default 60,000. */
  readonly readyWithinMs?: number
}

export interface ProductNode {
  /** Without a trailing slash. */
  readonly baseUrl: string
  readonly pid: number
  readonly child: ChildProcess
  /** What it wrote to stdout and stderr. */
  logs(): string
  /** SIGTERM, then waits for the end; throws if the drain takes longer than 45 seconds. */
  stop(): Promise<void>
  kill9(): Promise<void>
  /** SIGSTOP: its connections stay open and it does nothing. */
  pause(): void
  resume(): void
}

const here = resolve(import.meta.dirname, "../..")

/** Compiled code for all nodes of all tests: each has a DATA_DIR of its own, where it would find none. */
const compileCache = resolve(here, "node_modules/.cache/compiled")

/** What follows `node` in the command that users run. */
const startArguments = (root: string): ReadonlyArray<string> =>
  JSON.parse(readFileSync(resolve(root, "package.json"), "utf8"))
    .scripts.start.split(" ")
    .slice(1)

/** Runs the product as a process of its own and returns once it is ready; throws with its logs when it ends before. */
export const startNode = async (options: NodeOptions): Promise<ProductNode> => {
  const port = options.env["PORT"] ?? String(await freePort())
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: process.env["HOME"] ?? "",
    HOST: "127.0.0.1",
    METRICS_PORT: "0",
    NODE_COMPILE_CACHE: compileCache,
    ...options.env,
    PORT: port,
  }
  const root = options.source ?? here
  const command = [process.execPath, ...startArguments(root), ...(options.args ?? [])]
  const spawned =
    options.openFiles === undefined
      ? await spawnRecorded(process.execPath, command.slice(1), { cwd: root, env })
      : await spawnRecorded("/bin/sh", ["-c", `ulimit -n ${options.openFiles} && exec "$@"`, "sh", ...command], {
          cwd: root,
          env,
        })
  const baseUrl = `http://127.0.0.1:${port}`
  try {
    await waitForHttp200(spawned, `${baseUrl}/readyz`, options.readyWithinMs ?? 60_000)
  } catch (error) {
    await spawned.end("SIGKILL")
    throw error
  }
  return {
    baseUrl,
    pid: spawned.pid,
    child: spawned.child,
    logs: spawned.logs,
    stop: () => spawned.end("SIGTERM", 45_000),
    kill9: () => spawned.end("SIGKILL"),
    pause: () => void spawned.child.kill("SIGSTOP"),
    resume: () => void spawned.child.kill("SIGCONT"),
  }
}
