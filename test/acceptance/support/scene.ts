import { expect } from "vitest"
import { target } from "../target.ts"
import { field, filePart, inChunks, multipart } from "./multipart.ts"
import type { Body, Part } from "./multipart.ts"
import { api, expectStatus, send, unique } from "./wire.ts"
import type { Answer, Wire } from "./wire.ts"

export interface Principal {
  readonly kind: "user" | "agent" | "service"
  readonly id: string
}

export interface Key {
  readonly id: string
  readonly key: string
  readonly principal: Principal
}

export interface ClaimOptions {
  readonly job_id?: string
  readonly run_id?: string
  readonly step_id?: string
  readonly worker_session_id?: string
  readonly attempt?: number
  readonly owner?: Principal
  readonly worker_principal_id?: string
  readonly visibility?: "shared" | "private"
  readonly lease_seconds?: number
}

export interface Held {
  readonly jobId: string
  readonly token: string
  readonly body: Wire
}

export interface PublishOptions {
  readonly key?: string
  /** `null`: no lease header. */
  readonly lease?: string | null
  readonly idempotencyKey?: string
  readonly query?: string
  readonly path?: string
  readonly chunked?: boolean | AsyncIterable<Uint8Array>
}

export const permissions = {
  view: "mobius.project.view",
  edit: "mobius.project.edit",
  execute: "mobius.work.execute",
  claims: "mobius.claims.manage",
} as const

/** A fresh project with the principals that the tests speak of. */
export class Scene {
  readonly handle: string
  readonly path: string
  readonly owner: Principal = { kind: "user", id: unique("owner") }
  worker!: Key
  reader!: Key
  editor!: Key
  held!: Held

  private constructor(handle: string) {
    this.handle = handle
    this.path = `/v1/projects/${handle}/artifacts`
  }

  /** `quotaBytes` defaults to 256 MiB. The worker may also read; its claim `held` lives an hour. */
  static async open(quotaBytes = 256 * 1024 ** 2): Promise<Scene> {
    const scene = new Scene(unique("acceptance"))
    await scene.setQuota(quotaBytes)
    scene.worker = await scene.newKey("agent", [permissions.execute, permissions.view])
    scene.reader = await scene.newKey("user", [permissions.view])
    scene.editor = await scene.newKey("user", [permissions.view, permissions.edit])
    scene.held = await scene.claim()
    return scene
  }

  async setQuota(quotaBytes: number): Promise<void> {
    const answer = await api(target.adminKey, "PUT", `/v1/admin/projects/${this.handle}`, { quota_bytes: quotaBytes })
    expect([200, 201], answer.bytes.toString()).toContain(answer.status)
  }

  async newKey(kind: Principal["kind"], granted: ReadonlyArray<string>, id = unique(kind)): Promise<Key> {
    const principal = { kind, id }
    const answer = await api(target.adminKey, "POST", `/v1/admin/projects/${this.handle}/api-keys`, {
      principal,
      permissions: granted,
    })
    const { id: keyId, key } = expectStatus(answer, 201).json
    return { id: keyId, key, principal }
  }

  revoke(key: Key): Promise<Answer> {
    return api(target.adminKey, "DELETE", `/v1/admin/projects/${this.handle}/api-keys/${key.id}`)
  }

  claimBody(options: ClaimOptions = {}): Wire {
    const { job_id: _, ...rest } = options
    return { worker_session_id: "session-1", attempt: 1, owner: this.owner, lease_seconds: 3600, ...rest }
  }

  putClaim(jobId: string, body: unknown, key = target.adminKey): Promise<Answer> {
    return api(key, "PUT", `/v1/projects/${this.handle}/claims/${encodeURIComponent(jobId)}`, body)
  }

  /** A claim that is live for an hour, of run `run:1`, step `step:1` and a job of its own unless told otherwise. */
  async claim(options: ClaimOptions = {}): Promise<Held> {
    const jobId = options.job_id ?? unique("job")
    const body = this.claimBody({ run_id: "run:1", step_id: "step:1", ...options })
    const answer = await this.putClaim(jobId, body)
    return { jobId, token: expectStatus(answer, 201).json.lease_token, body }
  }

  release(held: Held): Promise<Answer> {
    return api(target.adminKey, "DELETE", `/v1/projects/${this.handle}/claims/${encodeURIComponent(held.jobId)}`)
  }

  headers(options: PublishOptions = {}): Record<string, string> {
    const lease = options.lease === undefined ? this.held.token : options.lease
    return {
      Authorization: `Bearer ${options.key ?? this.worker.key}`,
      ...(lease === null ? {} : { "X-Mobius-Lease-Token": lease }),
      ...(options.idempotencyKey === undefined ? {} : { "Idempotency-Key": options.idempotencyKey }),
    }
  }

  /** The whole body as given, to the publish route. */
  post(body: Body, options: PublishOptions = {}): Promise<Answer> {
    const chunks = options.chunked === true ? inChunks(body.bytes, 7_001) : options.chunked
    return send((options.path ?? this.path) + (options.query ?? ""), {
      method: "POST",
      headers: { ...this.headers(options), "Content-Type": body.contentType },
      body: chunks === undefined || chunks === false ? body.bytes : chunks,
    })
  }

  postParts(parts: ReadonlyArray<Part>, options: PublishOptions = {}): Promise<Answer> {
    return this.post(multipart(parts), options)
  }

  /** Publishes and returns the artifact; anything but 201 fails the test. */
  async publish(
    content: string | Uint8Array,
    options: PublishOptions & { readonly name?: string; readonly mime?: string; readonly metadata?: Wire } = {},
  ): Promise<Wire> {
    const parts = [field("name", options.name ?? "file.bin")]
    if (options.mime !== undefined) parts.push(field("mime", options.mime))
    if (options.metadata !== undefined) parts.push(field("metadata", JSON.stringify(options.metadata)))
    return expectStatus(await this.postParts([...parts, filePart(content)], options), 201).json
  }

  get(path: string, key = this.worker.key, headers: Record<string, string> = {}): Promise<Answer> {
    return api(key, "GET", this.path + path, undefined, headers)
  }

  remove(id: string, key = this.editor.key): Promise<Answer> {
    return api(key, "DELETE", `${this.path}/${id}`)
  }

  async list(query = "", key = this.worker.key): Promise<ReadonlyArray<Wire>> {
    return expectStatus(await this.get(query, key), 200).json.items
  }

  async quota(): Promise<Wire> {
    return expectStatus(await this.get("/quota"), 200).json
  }

  /** The project as the administrator sees it. */
  async books(): Promise<{ readonly limit: number; readonly used: number; readonly reserved: number }> {
    const answer = expectStatus(await api(target.adminKey, "GET", `/v1/admin/projects/${this.handle}`), 200).json
    return { limit: answer.limit_bytes, used: answer.used_bytes, reserved: answer.reserved_bytes }
  }

  /** Ready artifacts of the project, as the administrator sees them. */
  async artifactCount(): Promise<number> {
    const answer = await api(target.adminKey, "GET", `/v1/admin/projects/${this.handle}`)
    return expectStatus(answer, 200).json.artifact_count
  }

  /** Nothing was left behind: nothing listed, nothing used, nothing reserved. */
  async expectUntouched(): Promise<void> {
    expect(await this.list("", this.editor.key)).toEqual([])
    const books = await this.books()
    expect({ used: books.used, reserved: books.reserved }).toEqual({ used: 0, reserved: 0 })
  }
}
