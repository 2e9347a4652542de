import { Redis } from "ioredis"
import pg from "pg"
import type { Entry, Row } from "./auditEvents.ts"

/** Everything a plane keeps, as it is at one moment while nobody changes it. */
export interface Look {
  readonly rows: ReadonlyArray<Row>
  /** What each project is charged, in bytes, and how many artifacts it is said to have. */
  readonly usages: ReadonlyArray<{
    readonly project: string
    readonly usedBytes: number
    readonly artifactCount: number
  }>
  readonly queuedRemovals: number
  /** Events that are not in the stream yet. */
  readonly unpublishedEvents: number
  /** The stream. */
  readonly entries: ReadonlyArray<Entry>
  /** Every object and every unfinished write of the store. */
  readonly blobs: ReadonlyArray<string>
}

/** Where a plane keeps what it knows. */
export interface Insides {
  look(): Promise<Look>
}

/** What the database knows; `query` runs one statement. */
export const lookBySql = async (
  query: (sql: string) => Promise<ReadonlyArray<any>>,
): Promise<Omit<Look, "entries" | "blobs">> => {
  const count = async (sql: string) => Number((await query(sql))[0].count)
  const usages = await query("select handle, used_bytes, artifact_count from projects")
  return {
    rows: await query("select * from artifacts"),
    usages: usages.map(({ artifact_count, handle, used_bytes }) => ({
      project: handle,
      usedBytes: Number(used_bytes),
      artifactCount: Number(artifact_count),
    })),
    queuedRemovals: await count("select count(*) from removals"),
    unpublishedEvents: await count("select count(*) from events where published_at is null"),
  }
}

/** The insides of production nodes. */
export const insidesOfServers = (servers: {
  readonly postgresUrl: string
  readonly redisUrl: string
  readonly streamKey: string
  readonly blobs: () => Promise<ReadonlyArray<string>>
}): Insides => ({
  look: async () => {
    const db = new pg.Client({ connectionString: servers.postgresUrl })
    const redis = new Redis(servers.redisUrl)
    redis.on("error", () => {})
    await db.connect()
    try {
      const known = await lookBySql(async (sql) => (await db.query(sql)).rows)
      const blobs = await servers.blobs()
      const entries = (await redis.xrange(servers.streamKey, "-", "+")).map(([id, fields]) => ({
        id,
        payload: JSON.parse(fields[fields.indexOf("payload") + 1] ?? "{}"),
      }))
      return { ...known, blobs, entries }
    } finally {
      redis.disconnect()
      await db.end()
    }
  },
})
