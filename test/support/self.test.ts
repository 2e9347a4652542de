import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3"
import { Redis } from "ioredis"
import { Client } from "pg"
import { expect, inject, it } from "vitest"
import { createDatabase } from "./postgres.ts"

const postgresUrl = inject("postgresUrl")
const redisUrl = inject("redisUrl")
const s3 = inject("s3")

if (postgresUrl !== null) {
  it("Postgres answers in a fresh database, with fsync on and in UTC", async () => {
    const client = new Client({ connectionString: await createDatabase({ url: postgresUrl }) })
    await client.connect()
    try {
      const { rows } = await client.query(
        `select 1 as one, current_database() as name, current_setting('fsync') as fsync,
           current_setting('timezone') as zone, current_setting('max_connections') as connections`,
      )
      expect(rows).toEqual([
        { one: 1, name: expect.stringMatching(/^test_/), fsync: "on", zone: "UTC", connections: "200" },
      ])
    } finally {
      await client.end()
    }
  })
}

if (redisUrl !== null) {
  it("Redis answers and evicts nothing", async () => {
    const redis = new Redis(redisUrl)
    try {
      expect(await redis.ping()).toBe("PONG")
      expect(await redis.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"])
    } finally {
      redis.disconnect()
    }
  })
}

if (s3 !== null) {
  it("the S3 stand-in returns the bytes it was given", async () => {
    const client = new S3Client({
      endpoint: s3.endpoint,
      region: s3.region,
      forcePathStyle: true,
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    })
    try {
      const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index % 251)
      await client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: "self/a b", Body: bytes }))
      const answer = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: "self/a b" }))
      expect(await answer.Body?.transformToByteArray()).toEqual(bytes)
    } finally {
      client.destroy()
    }
  })
}

it("at least one shared server runs", () => {
  expect([postgresUrl, redisUrl, s3].some((server) => server !== null)).toBe(true)
})
