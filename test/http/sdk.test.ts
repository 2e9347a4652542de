import { Client } from "@deepnoodle/mobius"
import { createHash, randomBytes } from "node:crypto"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir } from "../support/processes.ts"

const adminKey = `mbx_${randomBytes(32).toString("hex")}`
const project = "sdk"
const content = Buffer.from("# Written by the platform's own client\n")

/** A node on embedded parts, with a key of a project. */
const openNode = async (env: Record<string, string>) => {
  const home = privateDir("sdk")
  const node = await startNode({ env: { DATA_DIR: home.path, BOOTSTRAP_API_KEY: adminKey, ...env } })
  const admin = async (method: string, path: string, body: unknown) => {
    const response = await fetch(node.baseUrl + path, {
      method,
      headers: { Authorization: `Bearer ${adminKey}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    })
    return JSON.parse(await response.text())
  }
  await admin("PUT", `/v1/admin/projects/${project}`, {})
  const { key } = await admin("POST", `/v1/admin/projects/${project}/api-keys`, {
    principal: { kind: "agent", id: "sdk-worker" },
    permissions: ["mobius.project.view", "mobius.project.edit", "mobius.work.execute"],
  })
  const close = async () => {
    await node.stop()
    home.remove()
  }
  const read = async (id: string) => {
    const response = await fetch(`${node.baseUrl}/v1/projects/${project}/artifacts/${id}/content`, {
      headers: { Authorization: `Bearer ${key}` },
    })
    return Buffer.from(await response.arrayBuffer())
  }
  return { node: node satisfies ProductNode, admin, key, close, read }
}

const create = (baseURL: string, apiKey: string) =>
  new Client({ baseURL, apiKey, project }).createArtifact({
    name: "notes/report.md",
    mimeType: "text/markdown",
    file: content,
    metadata: { from: "sdk" },
    idempotencyKey: "sdk-1",
  })

const made = {
  type: "artifact",
  name: "notes/report.md",
  mime_type: "text/markdown",
  size_bytes: content.length,
  sha256: createHash("sha256").update(content).digest("hex"),
  metadata: { from: "sdk" },
}

describe("the platform's public client", () => {
  describe("on a node that admits lease-free uploads", () => {
    let open: Awaited<ReturnType<typeof openNode>>
    beforeAll(async () => {
      open = await openNode({ ALLOW_LEASE_FREE_UPLOADS: "true" })
    }, 60_000)
    afterAll(() => open.close(), 60_000)

    it("creates a private artifact without lineage, owned by the caller, and replays it", async () => {
      const artifact: any = await create(open.node.baseUrl, open.key)
      expect(artifact).toMatchObject({ ...made, visibility: "private", owner: { kind: "agent", id: "sdk-worker" } })
      for (const name of ["run_id", "step_id", "job_id", "worker_session_id", "attempt"])
        expect(artifact).not.toHaveProperty(name)
      expect(await create(open.node.baseUrl, open.key)).toMatchObject({ id: artifact.id })
      expect((await open.read(artifact.id)).equals(content)).toBe(true)
    })
  })

  describe("on a default node", () => {
    let open: Awaited<ReturnType<typeof openNode>>
    const platformFetch = globalThis.fetch
    beforeAll(async () => {
      open = await openNode({})
    }, 60_000)
    afterEach(() => {
      globalThis.fetch = platformFetch
    })
    afterAll(() => open.close(), 60_000)

    it("is refused without a lease", async () => {
      await expect(create(open.node.baseUrl, open.key)).rejects.toMatchObject({ status: 403, code: "lease_required" })
    })

    it("creates an artifact with the claim's lineage once the lease header is added", async () => {
      const { lease_token } = await open.admin("PUT", `/v1/projects/${project}/claims/job:1`, {
        run_id: "run:1",
        worker_session_id: "session-1",
        attempt: 3,
        owner: { kind: "user", id: "someone" },
      })
      globalThis.fetch = (input, init) => {
        const headers = new Headers(init?.headers)
        headers.set("X-Mobius-Lease-Token", lease_token)
        return platformFetch(input, { ...init, headers })
      }
      const artifact: any = await create(open.node.baseUrl, open.key)
      expect(artifact).toMatchObject({
        ...made,
        visibility: "shared",
        run_id: "run:1",
        job_id: "job:1",
        attempt: 3,
        owner: { kind: "user", id: "someone" },
      })
      expect((await open.read(artifact.id)).equals(content)).toBe(true)
    })
  })
})
