import { randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import pg from "pg"
import { sleep } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish } from "./plane.ts"

export interface QuotaReport {
  readonly succeeded: number
  readonly refused: number
  readonly samples: number
  /** The largest `used + reserved` any sample of the admin view showed, in bytes. */
  readonly highestBooked: number
  /** The largest sum of ready bytes any sample of the rows showed. */
  readonly highestReady: number
  readonly limit: number
  readonly afterDelete: number
  readonly others: ReadonlyArray<string>
}

const MiB = 1024 * 1024

/** 64 uploads of 1 MiB and unknown size at once into a quota for ten, sampled all the while; optionally Redis is flushed. */
export const quotaStory = async (plane: Plane, options: { readonly flush: boolean }): Promise<QuotaReport> => {
  const { baseUrl } = plane.node()
  const limit = 10 * MiB
  const tenant = await makeTenant(baseUrl, plane.adminKey, { quotaBytes: limit })
  const admin = `${baseUrl}/v1/admin/projects/${tenant.project}`
  const db = new pg.Client({ connectionString: plane.postgres.url })
  await db.connect()
  let done = false
  let samples = 0
  let highestBooked = 0
  let highestReady = 0
  const sampling = (async () => {
    while (!done) {
      const [{ status, body }, rows] = await Promise.all([
        call(admin, plane.adminKey),
        db.query("select coalesce(sum(size), 0) as ready from artifacts where project = $1 and state = 'ready'", [
          tenant.project,
        ]),
      ])
      if (status === 200) {
        samples++
        highestBooked = Math.max(highestBooked, body.used_bytes + body.reserved_bytes)
      }
      highestReady = Math.max(highestReady, Number(rows.rows[0].ready))
      await sleep(2)
    }
  })()
  const flushing = options.flush
    ? sleep(60).then(async () => {
        const redis = new Redis(plane.redis.url)
        await redis.flushall()
        redis.disconnect()
      })
    : Promise.resolve()
  const answers = await Promise.all(
    Array.from({ length: 64 }, (_, index) =>
      publish(baseUrl, tenant, { name: `part-${index}`, bytes: randomBytes(MiB), chunked: true }),
    ),
  )
  await flushing
  const made = answers.filter(({ status }) => status === 201)
  const refused = answers.filter(({ status, body }) => status === 413 && body.error.code === "quota_exceeded")
  const others = answers.filter((answer) => !made.includes(answer) && !refused.includes(answer))

  // Whatever is left is filled to the brim first, then one delete must make room for exactly one more, at once.
  let afterDelete = 0
  const fill = async () => {
    for (;;) {
      const { status } = await publish(baseUrl, tenant, { name: "fill", bytes: randomBytes(MiB), chunked: true })
      if (status !== 201) return
    }
  }
  await fill()
  const victim = made[0]?.body.id
  const removed = await call(`${baseUrl}/v1/projects/${tenant.project}/artifacts/${victim}`, tenant.key, {
    method: "DELETE",
  })
  if (removed.status === 204) {
    afterDelete = (await publish(baseUrl, tenant, { name: "again", bytes: randomBytes(MiB), chunked: true })).status
  }
  done = true
  await sampling
  await db.end()
  return {
    succeeded: made.length,
    refused: refused.length,
    samples,
    highestBooked,
    highestReady,
    limit,
    afterDelete,
    others: others.map(({ status, body }) => `${status} ${JSON.stringify(body)}`),
  }
}
