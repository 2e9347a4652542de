import { fork } from "node:child_process"
import { join } from "node:path"
import { onExit } from "../support/processes.ts"
import type { Job, JobResult } from "./jobs.ts"

export interface Worker {
  readonly pid: number
  run(job: Job): Promise<JobResult>
  /** For jobs whose answer has a shape of its own. */
  ask(job: Job): Promise<unknown>
  /** The first message it sends by itself. */
  readonly announced: Promise<unknown>
  stop(): Promise<void>
}

/** Starts a program of `processes/` as a process of its own, which ends with this one at the latest. */
export const startWorker = (program: string, args: ReadonlyArray<string> = []): Worker => {
  const child = fork(join(import.meta.dirname, "processes", program), [...args], {
    serialization: "advanced",
    execArgv: [],
    // As many threads for files as there are clients: a ceiling is held back by nothing it could have.
    env: { ...process.env, UV_THREADPOOL_SIZE: "16" },
  })
  const withdraw = onExit(() => void child.kill("SIGKILL"))
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve())).then(withdraw)
  const reply = () =>
    new Promise<any>((resolve, reject) => {
      const onMessage = (message: unknown) => {
        child.off("exit", onEnd)
        resolve(message)
      }
      const onEnd = (code: number | null, signal: string | null) => {
        child.off("message", onMessage)
        reject(new Error(`${program} ended with ${code ?? signal}`))
      }
      child.once("message", onMessage)
      child.once("exit", onEnd)
    })
  const ask = async (job: Job) => {
    const answer = reply()
    child.send(job)
    const { error, result } = await answer
    if (error !== undefined) throw new Error(`${program}: ${error}`)
    return result
  }
  const announced = args.length > 0 ? reply() : Promise.resolve()
  announced.catch(() => {})
  return {
    pid: child.pid ?? 0,
    run: ask,
    ask,
    announced,
    stop: async () => {
      child.disconnect()
      await ended
    },
  }
}
