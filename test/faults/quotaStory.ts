import { randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import pg from "pg"
import { sleep } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish } from "./plane.ts"

export interface QuotaReport {
  readonly succeeded: number
  readonly refused: number
  readonly samples: number
  /** The largest `used + reserved` any sample of the admin view or of the counters themselves showed, in bytes. */
  readonly highestBooked: number
  /** The largest sum of ready bytes any sample of the rows showed. */
  readonly highestReady: number
  readonly limit: number
  readonly afterDelete: number
  readonly others: ReadonlyArray<string>
}

/** Where to publish and where to look; `views` answer the admin's questions, one of them each sample. */
export interface QuotaScene {
  readonly baseUrl: string
  readonly views?: ReadonlyArray<string>
  readonly adminKey: string
  readonly postgresUrl: string
  readonly redisUrl: string
}

/** Of a single node. */
export const sceneOf = (plane: Plane): QuotaScene => ({
  baseUrl: plane.node().baseUrl,
  adminKey: plane.adminKey,
  postgresUrl: plane.postgres.url,
  redisUrl: plane.redis.url,
})

const MiB = 1024 * 1024

/** Uploads of 1 MiB and unknown size, all at once, into a quota for ten, sampled all the while; optionally Redis is flushed. */
export const quotaStory = async (
  scene: QuotaScene,
  options: { readonly flush: boolean; readonly uploads?: number },
): Promise<QuotaReport> => {
  const { adminKey, baseUrl } = scene
  const limit = 10 * MiB
  const tenant = await makeTenant(baseUrl, adminKey, { quotaBytes: limit })
  const views = scene.views ?? [baseUrl]
  const db = new pg.Client({ connectionString: scene.postgresUrl })
  await db.connect()
  const redis = new Redis(scene.redisUrl)
  let done = false
  let samples = 0
  let highestBooked = 0
  let highestReady = 0
  const sampling = (async () => {
    while (!done) {
      const view = `${views[samples % views.length]}/v1/admin/projects/${tenant.project}`
      const [{ status, body }, counters, rows] = await Promise.all([
        call(view, adminKey),
        redis.hmget(`quota:{${tenant.project}}`, "used", "reserved"),
        db.query(
          "select coalesce(sum(coalesce(charged_bytes, size)), 0) as ready from artifacts where project = $1 and state = 'ready'",
          [tenant.project],
        ),
      ])
      samples++
      const viewed = status === 200 ? body.used_bytes + body.reserved_bytes : 0
      highestBooked = Math.max(highestBooked, viewed, Number(counters[0] ?? 0) + Number(counters[1] ?? 0))
      highestReady = Math.max(highestReady, Number(rows.rows[0].ready))
      await sleep(2)
    }
  })()
  const flushing = options.flush ? sleep(60).then(() => redis.flushall()) : Promise.resolve()
  const answers = await Promise.all(
    Array.from({ length: options.uploads ?? 64 }, (_, index) =>
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
  redis.disconnect()
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
