import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Run, last added first, when this process ends by itself or by a signal. They must be synchronous. */
const atExit = new Set<() => void>()
let hooked = false

const hook = () => {
  if (hooked) return
  hooked = true
  process.on("exit", () => {
    for (const undo of [...atExit].reverse()) {
      try {
        undo()
      } catch (error) {
        console.error("cleaning up failed:", error)
      }
    }
  })
  const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const
  for (const [signal, number] of Object.entries(signals)) {
    process.once(signal, () => process.exit(128 + number))
  }
}

/** Registers a cleanup for the end of this process; the returned function withdraws it. */
export const onExit = (undo: () => void): (() => void) => {
  hook()
  atExit.add(undo)
  return () => void atExit.delete(undo)
}

export interface PrivateDir {
  readonly path: string
  remove(): void
}

/** A fresh directory of mode 0700 under the system's temporary folder, removed at the latest when this process ends. */
export const privateDir = (name: string): PrivateDir => {
  const path = mkdtempSync(join(tmpdir(), `artifact-plane-${name}-`))
  const erase = () => rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  const withdraw = onExit(erase)
  return {
    path,
    remove: () => {
      erase()
      withdraw()
    },
  }
}

export interface SpawnOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly uid?: number
  readonly gid?: number
}

export interface Spawned {
  readonly child: ChildProcess
  readonly pid: number
  /** The last MiB of what it wrote to stdout and stderr. */
  logs(): string
  running(): boolean
  /** Resolves when it has ended, however that came. */
  readonly ended: Promise<void>
  /** Sends the signal and waits; SIGKILL follows, and an error is thrown, when it has not ended after `withinMs`. */
  end(signal: NodeJS.Signals, withinMs?: number): Promise<void>
}

const KEPT_CHARACTERS = 1024 * 1024

/** Starts a program whose life ends with this process at the latest. */
export const spawnRecorded = async (
  command: string,
  args: ReadonlyArray<string>,
  options: SpawnOptions = {},
): Promise<Spawned> => {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] })
  let text = ""
  const keep = (chunk: string) => {
    text = (text + chunk).slice(-KEPT_CHARACTERS)
  }
  child.stdout.setEncoding("utf8").on("data", keep)
  child.stderr.setEncoding("utf8").on("data", keep)
  const running = () => child.exitCode === null && child.signalCode === null
  const withdraw = onExit(() => {
    if (running()) child.kill("SIGKILL")
  })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve())).then(withdraw)
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve)
    child.once("error", (error) => {
      withdraw()
      reject(error)
    })
  })
  const end = async (signal: NodeJS.Signals, withinMs = 30_000) => {
    if (!running()) return
    child.kill(signal)
    // A paused process takes no signal but SIGKILL before it is continued.
    if (signal !== "SIGKILL") child.kill("SIGCONT")
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), withinMs)
    })
    const outcome = await Promise.race([ended, late])
    clearTimeout(timer)
    if (outcome !== "late") return
    child.kill("SIGKILL")
    await ended
    throw new Error(`${command} did not end within ${withinMs} ms of ${signal}\n${text.slice(-4000)}`)
  }
  return { child, pid: child.pid!, logs: () => text, running, ended, end }
}

/** Runs a program to its end; throws with what it wrote when its exit code is not 0. Returns its stdout. */
export const run = async (command: string, args: ReadonlyArray<string>, options: SpawnOptions = {}) => {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] })
  const withdraw = onExit(() => void child.kill("SIGKILL"))
  let out = ""
  let err = ""
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk))
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (err += chunk))
  try {
    const code = await new Promise<number | string | null>((resolve, reject) => {
      child.once("error", reject)
      child.once("close", (code, signal) => resolve(code ?? signal))
    })
    if (code !== 0) throw new Error(`${command} ended with ${code}\n${(out + err).slice(-4000)}`)
    return out
  } finally {
    withdraw()
  }
}

/** Whether PATH has the program. */
export const inPath = (program: string): boolean =>
  spawnSync("/bin/sh", ["-c", 'command -v "$1"', "sh", program], { stdio: "ignore" }).status === 0

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Asks again every `everyMs` until `ready` is true; throws with the logs when the program ends first or time is up. */
export const waitUntil = async (
  spawned: Spawned,
  what: string,
  ready: () => Promise<boolean> | boolean,
  withinMs = 30_000,
  everyMs = 25,
): Promise<void> => {
  const deadline = Date.now() + withinMs
  for (;;) {
    if (!spawned.running()) throw new Error(`ended before ${what}\n${spawned.logs().slice(-4000)}`)
    if (await ready()) return
    if (Date.now() > deadline) throw new Error(`no ${what} in ${withinMs} ms\n${spawned.logs().slice(-4000)}`)
    await sleep(everyMs)
  }
}

export const waitForLine = (spawned: Spawned, line: RegExp | string, withinMs?: number): Promise<void> =>
  waitUntil(
    spawned,
    `the line ${line}`,
    () => (typeof line === "string" ? spawned.logs().includes(line) : line.test(spawned.logs())),
    withinMs,
  )

/** Waits for a GET of the URL to answer 200. */
export const waitForHttp200 = (spawned: Spawned, url: string, withinMs?: number): Promise<void> =>
  waitUntil(
    spawned,
    `200 from ${url}`,
    async () => {
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(2000) })
        await response.body?.cancel()
        return response.status === 200
      } catch {
        return false
      }
    },
    withinMs,
  )

const childrenOf = (pid: number): ReadonlyArray<number> => {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
    )
  } catch {
    return []
  }
}

/**
 * Sends a signal to a process and to all it has started, parents first, so that a stopped parent starts no more of
 * them. Without /proc only the process itself is reached.
 */
export const signalTree = (pid: number, signal: NodeJS.Signals): void => {
  const children = signal === "SIGSTOP" ? [] : childrenOf(pid)
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
  for (const child of signal === "SIGSTOP" ? childrenOf(pid) : children) signalTree(child, signal)
}
