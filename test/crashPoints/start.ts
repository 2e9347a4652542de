import { fork } from "node:child_process"
import { join } from "node:path"
import { onExit } from "../support/processes.ts"
import type { Order, Report } from "./run.ts"
import type { Home, StackName } from "./stacks.ts"

/** A line about how far a process is. */
export type Say = (line: string) => void

/** A process that has loaded everything and waits for its order. */
export const startProcess = (say: Say) => {
  const child = fork(join(import.meta.dirname, "run.ts"), [], {
    execPath: process.execPath,
    execArgv: [],
    env: {
      PATH: process.env["PATH"],
      HOME: process.env["HOME"],
      NODE_COMPILE_CACHE: join(import.meta.dirname, "../../node_modules/.cache/compiled"),
    },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  })
  const withdraw = onExit(() => void child.kill("SIGKILL"))
  let text = ""
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (chunk: string) => (text = (text + chunk).slice(-20_000)))
  const ended = new Promise<{ readonly report: Report | undefined; readonly signal: string | null }>((resolve) => {
    let report: Report | undefined
    child.on("message", (message: Report | string) => {
      if (typeof message === "string") say(message)
      else report = message
    })
    child.once("exit", (_, signal) => {
      withdraw()
      resolve({ report, signal })
    })
  })
  return {
    /** Resolves once the process has ended: with its report, or with the signal that ended it. */
    obey: async (order: Order, stack: StackName, home: Home, journal: string) => {
      child.send({ order, stack, home, journal })
      const { report, signal } = await ended
      return { report, signal, text }
    },
    end: () => void child.kill("SIGKILL"),
  }
}
