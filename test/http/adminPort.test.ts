import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { type ProductNode, startNode } from "../support/node.ts"
import { freePort } from "../support/ports.ts"
import { privateDir } from "../support/processes.ts"

describe("ADMIN_PORT", { timeout: 120_000 }, () => {
  const home = privateDir("admin-port")
  let node: ProductNode
  let adminPort: number
  let adminKey: string

  beforeAll(async () => {
    adminPort = await freePort()
    node = await startNode({ env: { DATA_DIR: home.path, ADMIN_PORT: String(adminPort) } })
    adminKey = JSON.parse(readFileSync(join(home.path, "dev-credentials.json"), "utf8")).admin_key
  }, 120_000)
  afterAll(async () => {
    await node?.stop()
    home.remove()
  })

  const statusOf = async (base: string, path: string) =>
    (await fetch(base + path, { headers: { authorization: `Bearer ${adminKey}` } })).status
  const admin = () => `http://127.0.0.1:${adminPort}`

  it("is the only port that serves the admin calls", async () => {
    expect(await statusOf(admin(), "/v1/admin/events")).toBe(200)
    for (const path of ["/v1/admin/events", "/v1/admin/projects/demo", "/v1/admin/projects/demo/api-keys"])
      expect([path, await statusOf(node.baseUrl, path)]).toEqual([path, 404])
  })

  it("serves nothing else", async () => {
    for (const path of ["/healthz", "/v1/artifacts", "/v1/projects/demo/artifacts", "/openapi.json", "/"])
      expect([path, await statusOf(admin(), path)]).toEqual([path, 404])
    expect(await statusOf(node.baseUrl, "/healthz")).toBe(200)
  })

  it("that is taken is one line that names the key", async () => {
    const other = privateDir("admin-port-taken")
    await expect(startNode({ env: { DATA_DIR: other.path, ADMIN_PORT: String(adminPort) } })).rejects.toThrow(
      `ADMIN_PORT ${adminPort} cannot be listened on`,
    )
    other.remove()
  })
})
