import { type HttpJob, type JobResult, nowMicros } from "../jobs.ts"
import { tally, type Tally } from "./closedLoop.ts"
import { Connection, prepare, type Prepared } from "./Connection.ts"
import { serveJobs } from "./serveJobs.ts"

const check = (request: Prepared, answer: { status: number; bytes: number; text: string }): void => {
  const { answerBytes, head, status } = request.spec
  const line = head.slice(0, head.indexOf(" HTTP/"))
  if (answer.status !== status)
    throw new Error(`${line.slice(0, 100)}: ${answer.status} instead of ${status}: ${answer.text.slice(0, 300)}`)
  if (answerBytes !== undefined && answer.bytes !== answerBytes)
    throw new Error(`${line.slice(0, 100)}: ${answer.bytes} bytes instead of ${answerBytes}`)
}

interface Due {
  readonly request: Prepared
  readonly index: number
  /** µs; of a client that was free, when its timer rang: that it rings late is not the server's doing. */
  readonly due: number
}

/** The load generator: HTTP over raw sockets, requests built before the clock runs. */
const run = async (job: HttpJob): Promise<JobResult> => {
  const prepared = job.requests.map(prepare)
  const portOf = (client: number) => job.ports[client % job.ports.length] ?? 0
  const open = await Promise.all(Array.from({ length: job.clients }, (_, client) => Connection.open(portOf(client))))
  const began = nowMicros()
  const until = began + job.seconds * 1e6
  let started = 0

  /** The next request of a client and when it was due, or nothing when the work is over. */
  const next = async (client: number, turn: number): Promise<Due | undefined> => {
    if (started >= (job.atMost ?? Number.POSITIVE_INFINITY)) return undefined
    if (job.once === true && started >= prepared.length) return undefined
    const index = job.once === true ? started : (client + turn * job.clients) % prepared.length
    const order = started++
    const request = prepared[index]
    if (request === undefined) return undefined
    if (job.rate === undefined)
      return turn > 0 && nowMicros() >= until ? undefined : { request, index, due: nowMicros() }
    const due = began + (order / job.rate) * 1e6
    if (due >= until) return undefined
    if (nowMicros() >= due) return { request, index, due }
    while (nowMicros() < due)
      await new Promise((resolve) => setTimeout(resolve, Math.max(1, (due - nowMicros()) / 1000)))
    return { request, index, due: nowMicros() }
  }

  const client = async (index: number, { failed, hopeless, latencyMicros, made }: Tally): Promise<void> => {
    let connection = open[index]
    for (let turn = 0; !hopeless(); turn++) {
      const work = await next(index, turn)
      if (work === undefined) break
      try {
        if (connection === undefined || connection.broken) connection = await Connection.open(portOf(index))
        const answer = await connection.exchange(work.request)
        const answered = nowMicros()
        check(work.request, answer)
        latencyMicros.push(answered - work.due)
        if (job.keepIds === true)
          made.push({
            id: JSON.parse(answer.text).id,
            index: work.index,
            dueMicros: work.due,
            answeredMicros: answered,
          })
      } catch (error) {
        failed(error)
        // What else comes on this connection belongs to the request that went wrong.
        connection?.close()
        connection = undefined
      }
    }
    connection?.close()
  }
  return tally(job.clients, client)
}

serveJobs(async (job) => {
  if (job.kind !== "http") throw new Error(`not a job of this process: ${job.kind}`)
  return run(job)
})
