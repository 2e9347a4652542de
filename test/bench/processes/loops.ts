import { createHash, randomBytes } from "node:crypto"
import { mkdirSync } from "node:fs"
import { open, rename } from "node:fs/promises"
import { join } from "node:path"
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3"
import pg from "pg"
import type { DurableFilesJob, HashJob, InsertsJob, JobResult, S3Job, WarmMemoryJob } from "../jobs.ts"
import { closedLoop } from "./closedLoop.ts"
import { serveJobs } from "./serveJobs.ts"

/** Ceilings that need no server of ours: the disk, the database and the object store, each driven directly. */

const durableFiles = async (job: DurableFilesJob): Promise<JobResult> => {
  const bytes = randomBytes(job.bytes)
  const run = randomBytes(6).toString("hex")
  // As many folders as the product spreads over: syncs of one folder would wait for each other.
  const folders = Array.from({ length: 256 }, (_, index) => join(job.folder, String(index)))
  for (const folder of folders) mkdirSync(folder, { recursive: true })
  return closedLoop(job, async (client, turn) => {
    const folder = folders[(client * 31 + turn) % folders.length] ?? job.folder
    const name = `${run}-${client}-${turn}`
    const draft = join(job.folder, name)
    const file = await open(draft, "wx", 0o640)
    await file.write(bytes)
    await file.datasync()
    await file.close()
    await rename(draft, join(folder, name))
    const handle = await open(folder, "r")
    await handle.sync()
    await handle.close()
  })
}

const chunk = randomBytes(64 * 1024)

const hashes = ({ bytes, seconds }: HashJob): Promise<JobResult> =>
  closedLoop({ clients: 1, seconds }, async () => {
    const hash = createHash("sha256")
    for (let at = 0; at < bytes; at += chunk.length) hash.update(chunk.subarray(0, Math.min(chunk.length, bytes - at)))
    hash.digest()
  })

const inserts = async (job: InsertsJob): Promise<JobResult> => {
  const pool = new pg.Pool({ connectionString: job.databaseUrl, max: job.clients })
  await pool.query("create table if not exists bench_inserts (id text primary key, project text, body text)")
  const body = "x".repeat(400)
  try {
    return await closedLoop(job, async (client) => {
      await pool.query({
        name: "insert",
        text: "insert into bench_inserts values ($1, $2, $3) returning id",
        values: [randomBytes(16).toString("hex"), `project-${client}`, body],
      })
    })
  } finally {
    await pool.end()
  }
}

const s3 = async (job: S3Job): Promise<JobResult> => {
  const client = new S3Client({
    endpoint: job.endpoint,
    region: job.region,
    forcePathStyle: true,
    credentials: { accessKeyId: job.accessKeyId, secretAccessKey: job.secretAccessKey },
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  })
  const Body = randomBytes(job.bytes)
  const put = (Key: string) => client.send(new PutObjectCommand({ Bucket: job.bucket, Key, Body }))
  const keyOf = (index: number) => `direct/${job.bytes}-${index}`
  try {
    if (job.kind === "s3-put") return await closedLoop(job, async (index) => void (await put(keyOf(index))))
    for (let index = 0; index < job.clients; index++) await put(keyOf(index))
    return await closedLoop(job, async (index) => {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: job.bucket, Key: keyOf(index) }))
      let seen = 0
      for await (const chunk of Body as AsyncIterable<Uint8Array>) seen += chunk.length
      if (seen !== job.bytes) throw new Error(`${seen} bytes instead of ${job.bytes}`)
    })
  } finally {
    client.destroy()
  }
}

const warmMemory = ({ bytes }: WarmMemoryJob): void => {
  const memory = new ArrayBuffer(bytes)
  new Uint8Array(memory).fill(1)
  memory.transfer(0)
}

serveJobs(async (job) => {
  switch (job.kind) {
    case "warm-memory":
      return warmMemory(job)
    case "durable-files":
      return durableFiles(job)
    case "sha256":
      return hashes(job)
    case "inserts":
      return inserts(job)
    case "s3-put":
    case "s3-get":
      return s3(job)
    default:
      throw new Error(`not a job of this process: ${job.kind}`)
  }
})
