import { createHash, randomBytes } from "node:crypto"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { blobFiles } from "../support/blobFiles.ts"
import { productionEnvironment } from "../support/environment.ts"
import { type NodeOptions, type ProductNode, startNode } from "../support/node.ts"
import { type PostgresOptions, type PostgresServer, startPostgres } from "../support/postgres.ts"
import { privateDir, run } from "../support/processes.ts"
import { type RedisServer, startRedis } from "../support/redis.ts"

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

/** A production node over its own Postgres, Redis and folder, which may be killed and started again at will. */
export interface Plane {
  readonly adminKey: string
  readonly postgres: PostgresServer
  readonly redis: RedisServer
  readonly blobDir: string
  /** Every object and every unfinished file of the store. */
  readonly blobs: () => Promise<ReadonlyArray<string>>
  readonly streamKey: string
  /** The node's configuration. */
  readonly env: Readonly<Record<string, string>>
  node(): ProductNode
  /** Starts the node again; `extra` changes its configuration for this start, `limits` what the system lets it have. */
  start(extra?: Record<string, string>, limits?: Pick<NodeOptions, "openFiles">): Promise<void>
  dispose(): Promise<void>
}

/** `running`: servers in the place of those that a plane starts for itself; `extra` says how to reach them. */
export const startPlane = async (
  extra: Record<string, string> = {},
  options: {
    readonly postgres?: PostgresOptions
    readonly running?: { readonly postgres?: PostgresServer; readonly redis?: RedisServer }
  } = {},
): Promise<Plane> => {
  const [postgres, redis] = await Promise.all([
    options.running?.postgres ?? startPostgres(options.postgres),
    options.running?.redis ?? startRedis(),
  ])
  const home = privateDir("plane")
  const dataDir = join(home.path, "data")
  mkdirSync(dataDir)
  const { adminKey, env: common } = productionEnvironment(postgres.url, redis.url, dataDir)
  const env = { ...common, ...extra }
  const base = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
  await run(process.execPath, ["src/migrate.ts"], { cwd: join(import.meta.dirname, "../.."), env: { ...base, ...env } })
  let node = await startNode({ env })
  return {
    adminKey,
    postgres,
    redis,
    blobDir: join(dataDir, "blobs"),
    blobs: async () => blobFiles(dataDir),
    streamKey: env.EVENT_STREAM_KEY,
    env,
    node: () => node,
    start: async (changes = {}, limits = {}) => {
      node = await startNode({ env: { ...env, ...changes }, ...limits })
    },
    dispose: async () => {
      await node.kill9().catch(() => {})
      await Promise.all([postgres.dispose(), redis.dispose()])
      home.remove()
    },
  }
}

export interface Answer {
  readonly status: number
  readonly body: any
}

/** What an answer says it is: JSON only by its content type, for a file may begin with any byte. */
export const bodyOf = async (response: Response): Promise<any> => {
  const text = await response.text()
  if (text === "") return undefined
  return response.headers.get("content-type")?.startsWith("application/json") === true ? JSON.parse(text) : text
}

/** How long the platform's SDK waits for an answer, in milliseconds. */
export const sdkTimeout = 60_000

/** One call; `body` is text where the answer is not JSON. A connection that breaks is thrown. */
export const call = async (url: string, key: string, init: RequestInit = {}): Promise<Answer> => {
  const headers = new Headers(init.headers)
  headers.set("authorization", `Bearer ${key}`)
  if (typeof init.body === "string") headers.set("content-type", "application/json")
  const response = await fetch(url, { ...init, headers, signal: init.signal ?? AbortSignal.timeout(sdkTimeout) })
  return { status: response.status, body: await bodyOf(response) }
}

export interface Tenant {
  readonly project: string
  readonly key: string
  readonly jobId: string
  readonly runId: string
  token: string
}

/** A fresh project with one key that may do everything, and one live claim. */
export const makeTenant = async (
  baseUrl: string,
  adminKey: string,
  options: { readonly quotaBytes?: number; readonly name?: string } = {},
): Promise<Tenant> => {
  const project = `${options.name ?? "tenant"}-${randomBytes(4).toString("hex")}`
  const expect = async (status: ReadonlyArray<number>, answer: Promise<Answer>) => {
    const { status: got, body } = await answer
    if (!status.includes(got)) throw new Error(`expected ${status.join("/")}, got ${got}: ${JSON.stringify(body)}`)
    return body
  }
  const admin = `${baseUrl}/v1/admin/projects/${project}`
  const quota = options.quotaBytes === undefined ? {} : { quota_bytes: options.quotaBytes }
  await expect([200, 201], call(admin, adminKey, { method: "PUT", body: JSON.stringify(quota) }))
  const { key } = await expect(
    [201],
    call(`${admin}/api-keys`, adminKey, {
      method: "POST",
      body: JSON.stringify({
        principal: { kind: "agent", id: "worker" },
        permissions: ["mobius.project.view", "mobius.project.edit", "mobius.work.execute"],
      }),
    }),
  )
  const claim = {
    run_id: "run-1",
    step_id: "step-1",
    worker_session_id: "session-1",
    attempt: 1,
    owner: { kind: "agent", id: "worker" },
    lease_seconds: 86_400,
  }
  const { lease_token } = await expect(
    [201],
    call(`${baseUrl}/v1/projects/${project}/claims/job-1`, adminKey, { method: "PUT", body: JSON.stringify(claim) }),
  )
  return { project, key, jobId: "job-1", runId: "run-1", token: lease_token }
}

/** Publishes bytes; `chunked` hides the length from the node. */
export const publish = (
  baseUrl: string,
  tenant: Tenant,
  file: {
    readonly name: string
    readonly bytes: Uint8Array<ArrayBuffer>
    readonly key?: string
    readonly chunked?: boolean
    readonly signal?: AbortSignal
    /** Further parts, before the file. */
    readonly fields?: Readonly<Record<string, string>>
  },
): Promise<Answer> => {
  const headers: Record<string, string> = { "x-mobius-lease-token": tenant.token }
  if (file.key !== undefined) headers["idempotency-key"] = file.key
  const url = `${baseUrl}/v1/projects/${tenant.project}/artifacts`
  const signal = file.signal === undefined ? {} : { signal: file.signal }
  if (file.chunked !== true) {
    const form = new FormData()
    form.append("name", file.name)
    for (const [field, value] of Object.entries(file.fields ?? {})) form.append(field, value)
    form.append("file", new Blob([file.bytes]), "file")
    return call(url, tenant.key, { method: "POST", headers, body: form, ...signal })
  }
  const boundary = `b${randomBytes(12).toString("hex")}`
  headers["content-type"] = `multipart/form-data; boundary=${boundary}`
  const fields = Object.entries(file.fields ?? {}).map(
    ([field, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${field}"\r\n\r\n${value}\r\n`,
  )
  const head = `${fields.join("")}--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n`
  const tail = `\r\n--${boundary}\r\ncontent-disposition: form-data; name="name"\r\n\r\n${file.name}\r\n--${boundary}--\r\n`
  const parts = async function* () {
    yield Buffer.from(head)
    for (let at = 0; at < file.bytes.length; at += 65_536) yield file.bytes.subarray(at, at + 65_536)
    yield Buffer.from(tail)
  }
  const body = ReadableStream.from(parts()) as unknown as RequestInit["body"]
  return call(url, tenant.key, {
    method: "POST",
    headers,
    body: body ?? null,
    duplex: "half",
    ...signal,
  } as RequestInit)
}
