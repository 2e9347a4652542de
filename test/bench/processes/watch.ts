import { setTimeout as sleep } from "node:timers/promises"
import { Redis } from "ioredis"
import { nowMicros, type WatchJob } from "../jobs.ts"
import { serveJobs } from "./serveJobs.ts"

/** A consumer of the event stream, as another plane would be: it notes when it saw which artifact. */
let seen: Array<[string, number]> = []
let connection: Redis | undefined

const watch = async (job: WatchJob): Promise<void> => {
  seen = []
  const redis = new Redis(job.redisUrl, { maxRetriesPerRequest: null })
  connection = redis
  const newest = (await redis.xrevrange(job.stream, "+", "-", "COUNT", 1))[0]?.[0] ?? "0-0"
  const read = async (after: string): Promise<void> => {
    let last = after
    while (connection === redis) {
      const found = await redis.xread("COUNT", 500, "BLOCK", 200, "STREAMS", job.stream, last)
      const at = nowMicros()
      for (const [id, fields] of found?.[0]?.[1] ?? []) {
        last = id
        const payload = fields[fields.indexOf("payload") + 1] ?? "{}"
        seen.push([JSON.parse(payload).source_id, at])
      }
    }
    redis.disconnect()
  }
  read(newest).catch((error: unknown) => {
    console.error(error)
    process.exit(1)
  })
}

serveJobs(async (job) => {
  if (job.kind === "watch") return watch(job)
  if (job.kind !== "collect") throw new Error(`not a job of this process: ${job.kind}`)
  const until = Date.now() + 5000
  while (seen.length < job.count && Date.now() < until) await sleep(20)
  connection = undefined
  return seen
})
