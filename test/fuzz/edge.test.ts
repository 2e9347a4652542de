import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { errorCodes } from "../../src/http/ApiErrors.ts"
import { call, makeTenant, publish, type Tenant } from "../faults/plane.ts"
import { makeRandom } from "../faults/random.ts"
import { blobFiles } from "../support/blobFiles.ts"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir, sleep } from "../support/processes.ts"
import { nextRequest, type World } from "./requests.ts"
import { type Ending, sendBytes } from "./send.ts"

const cases = Number(process.env["FUZZ_CASES"] ?? 1500)
const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 1_000_000_000)
const atOnce = 24

describe("bad input", { timeout: 60_000 + cases * 100 }, () => {
  const home = privateDir("fuzz")
  let node: ProductNode
  let adminKey: string
  let tenant: Tenant

  beforeAll(async () => {
    node = await startNode({
      readyWithinMs: 120_000,
      env: { DATA_DIR: home.path, UPLOAD_IDLE_SECONDS: "1", LOG_LEVEL: "warning" },
    })
    adminKey = JSON.parse(readFileSync(join(home.path, "dev-credentials.json"), "utf8")).admin_key
    tenant = await makeTenant(node.baseUrl, adminKey, { name: "fuzz" })
  }, 180_000)
  afterAll(async () => {
    await node?.stop()
    home.remove()
  })

  /** Open connections. The database and the store keep files open as they please. */
  const connections = () =>
    readdirSync(`/proc/${node.pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${node.pid}/fd/${fd}`).startsWith("socket:")
      } catch {
        return false
      }
    }).length
  const project = () => `${node.baseUrl}/v1/projects/${tenant.project}`

  const everything = async () => {
    const items: Array<{ readonly id: string; readonly size: number; readonly metadata: object }> = []
    let cursor = ""
    for (;;) {
      const { body } = await call(`${project()}/artifacts?limit=100${cursor}`, tenant.key)
      items.push(...body.items)
      if (!body.has_more) return items
      cursor = `&cursor=${encodeURIComponent(body.next_cursor)}`
    }
  }

  it(`never crashes, hangs, stores or charges, and is never 5xx (seed ${seed}, ${cases} cases)`, async () => {
    const random = makeRandom(seed)
    const port = Number(new URL(node.baseUrl).port)
    const first = await publish(node.baseUrl, tenant, { name: "first.txt", bytes: Buffer.from("hello") })
    const second = await publish(node.baseUrl, tenant, { name: "second.txt", bytes: Buffer.from("world") })
    const page = await call(`${project()}/artifacts?limit=1`, tenant.key)
    const url = await call(`${project()}/artifacts/${first.body.id}/signed-url`, tenant.key, { method: "POST" })
    const artifacts = [first.body.id, second.body.id]
    const world: World = {
      project: tenant.project,
      key: tenant.key,
      adminKey,
      token: tenant.token,
      jobId: tenant.jobId,
      artifacts,
      cursors: [encodeURIComponent(page.body.next_cursor)],
      signed: [url.body.url.slice(node.baseUrl.length)],
    }
    await sleep(500)
    const before = connections()

    const endings: Record<string, number> = {}
    const faults: Array<string> = []
    const judge = (index: number, kind: string, bytes: Buffer, { body, hung, status }: Ending) => {
      const fault = (what: string) =>
        faults.push(`case ${index} (${kind}): ${what}; sent ${JSON.stringify(bytes.toString("latin1").slice(0, 600))}`)
      endings[`${kind.split(",")[0]} ${status ?? "closed"}`] =
        (endings[`${kind.split(",")[0]} ${status ?? "closed"}`] ?? 0) + 1
      if (hung) return fault("no answer")
      if (status === undefined || status < 400 || body === "") return
      // Of two requests with one key the later one took over, and then ended for what is wrong with it.
      if (status === 503 && body.includes("took this upload over ended without an artifact")) return
      if (status >= 500) return fault(`answered ${status} ${body}`)
      let code: unknown
      try {
        code = JSON.parse(body).error.code
      } catch {
        return fault(`no envelope in ${body.slice(0, 200)}`)
      }
      if (!(errorCodes as ReadonlyArray<unknown>).includes(code)) fault(`unknown code ${String(code)}`)
    }
    let next = 0
    const client = async () => {
      while (next < cases && faults.length < 20) {
        const index = next++
        const { bytes, kind } = nextRequest(random, world)
        const ending = await sendBytes(port, bytes, random)
        judge(index, kind, bytes, ending)
        if (ending.status === 201 && kind.startsWith("upload")) artifacts.push(JSON.parse(ending.body).id)
      }
    }
    await Promise.all(Array.from({ length: atOnce }, client))
    console.log(`seed ${seed}, ${next} cases:`, JSON.stringify(endings))
    expect(faults).toEqual([])

    // What is kept is what was published, and nothing of what was refused.
    const usage = async () => (await call(`${node.baseUrl}/v1/admin/projects/${tenant.project}`, adminKey)).body
    const until = Date.now() + 5000
    const settled = async () => (await usage()).reserved_bytes === 0 && connections() <= before + 10
    while (!(await settled()) && Date.now() < until) await sleep(250)
    const kept = await everything()
    const { artifact_count, reserved_bytes, used_bytes } = await usage()
    const charged = ({ metadata, size }: (typeof kept)[number]) =>
      size + (Object.keys(metadata).length === 0 ? 0 : Buffer.byteLength(JSON.stringify(metadata)))
    expect({ reserved_bytes, artifact_count, used_bytes }).toEqual({
      reserved_bytes: 0,
      artifact_count: kept.length,
      used_bytes: kept.reduce((sum, artifact) => sum + charged(artifact), 0),
    })
    expect(kept.filter(({ id }) => !artifacts.includes(id))).toEqual([])
    expect((await call(`${project()}/artifacts/quota`, tenant.key)).body.pending_count).toBe(0)
    const objects = blobFiles(home.path).filter((file) => file.includes(tenant.project))
    expect(objects.filter((file) => !kept.some(({ id }) => file.includes(id)))).toEqual([])
    expect(objects).toHaveLength(kept.length)
    expect(connections()).toBeLessThanOrEqual(before + 10)
    expect((await fetch(`${node.baseUrl}/healthz`)).status).toBe(200)
    // A fault of the node leaves a line; what a client did wrong does not.
    expect(
      node
        .logs()
        .split("\n")
        .filter((line) => / ERROR | FATAL /.test(line)),
    ).toEqual([])
  })
})
