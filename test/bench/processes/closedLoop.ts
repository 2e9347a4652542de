import { type JobResult, type Made, nowMicros } from "../jobs.ts"

const keptErrors = 5
/** A run with so many errors has nothing left to measure. */
const hopeless = 100

export interface Tally {
  readonly latencyMicros: Array<number>
  readonly made: Array<Made>
  failed(error: unknown): void
  hopeless(): boolean
}

/** Runs `each` on every client until it returns, and counts what they report. */
export const tally = async (
  clients: number,
  each: (client: number, tally: Tally) => Promise<void>,
): Promise<JobResult> => {
  const latencyMicros: Array<number> = []
  const made: Array<Made> = []
  const errors: Array<string> = []
  let errorCount = 0
  const shared: Tally = {
    latencyMicros,
    made,
    failed: (error) => {
      errorCount++
      if (errors.length < keptErrors) errors.push(error instanceof Error ? error.message : String(error))
    },
    hopeless: () => errorCount >= hopeless,
  }
  const cpu = process.cpuUsage()
  const began = nowMicros()
  await Promise.all(Array.from({ length: clients }, (_, client) => each(client, shared)))
  const seconds = (nowMicros() - began) / 1e6
  const { system, user } = process.cpuUsage(cpu)
  return {
    requests: latencyMicros.length,
    seconds,
    latencyMicros,
    errorCount,
    errors,
    made,
    workerCpuMicros: user + system,
  }
}

/** A closed loop: each client does one thing after the other until the time is over. */
export const closedLoop = (
  options: { readonly clients: number; readonly seconds: number },
  one: (client: number, turn: number) => Promise<void>,
): Promise<JobResult> => {
  const until = nowMicros() + options.seconds * 1e6
  return tally(options.clients, async (client, { failed, hopeless, latencyMicros }) => {
    for (let turn = 0; (turn === 0 || nowMicros() < until) && !hopeless(); turn++) {
      const began = nowMicros()
      try {
        await one(client, turn)
        latencyMicros.push(nowMicros() - began)
      } catch (error) {
        failed(error)
      }
    }
  })
}
