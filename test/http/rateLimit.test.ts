import { randomBytes } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { makeTenant, publish, type Tenant } from "../faults/plane.ts"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir } from "../support/processes.ts"

const burst = 5
const adminKey = `mbx_${randomBytes(32).toString("hex")}`
const home = privateDir("rate-limit")

let node: ProductNode
let tenant: Tenant

beforeAll(async () => {
  node = await startNode({
    env: { DATA_DIR: home.path, BOOTSTRAP_API_KEY: adminKey, RATE_LIMIT_PER_KEY: `1/${burst}` },
    readyWithinMs: 180_000,
  })
}, 200_000)
afterAll(async () => {
  await node.kill9()
  home.remove()
})

const get = (path: string, key?: string) =>
  fetch(`${node.baseUrl}${path}`, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } })

describe("RATE_LIMIT_PER_KEY", () => {
  it("answers 429 to a key beyond its burst, and says when to come back", async () => {
    tenant = await makeTenant(node.baseUrl, adminKey)
    const answers = await Promise.all(Array.from({ length: 2 * burst }, () => get("/v1/artifacts", tenant.key)))
    const refused = answers.filter(({ status }) => status === 429)
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(burst - 1)
    expect(refused.length).toBeGreaterThan(0)
    const { headers } = refused[0]!
    expect(Number(headers.get("retry-after"))).toBe(1)
    expect(headers.get("x-ratelimit-limit")).toBe(String(burst))
    expect(headers.get("x-ratelimit-remaining")).toBe("0")
    expect(Number(headers.get("x-ratelimit-reset"))).toBeLessThanOrEqual(burst)
    expect(await refused[0]!.json()).toEqual({
      error: { code: "rate_limit_exceeded", message: expect.stringContaining("Retry-After") },
    })
  })

  it("counts publishes too, which take another way", async () => {
    const file = { name: "f", bytes: randomBytes(10) }
    const statuses = new Set<number>()
    for (let n = 0; n < burst + 2; n++) statuses.add((await publish(node.baseUrl, tenant, file)).status)
    expect([...statuses]).toContain(429)
  })

  it("limits no other key, no administrator and no probe", async () => {
    const other = await makeTenant(node.baseUrl, adminKey)
    expect((await get("/v1/artifacts", other.key)).status).toBe(200)
    for (let n = 0; n < 2 * burst; n++) {
      expect((await get("/healthz")).status).toBe(200)
      expect((await get("/readyz")).status).toBe(200)
      expect((await get(`/v1/admin/projects/${other.project}`, adminKey)).status).toBe(200)
    }
  })
})
