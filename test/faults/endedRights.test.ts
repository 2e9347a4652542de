import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir, sleep } from "../support/processes.ts"
import { type Answer, call, makeTenant, publish, startPlane, type Tenant } from "./plane.ts"
import { beginUpload, type SlowUpload } from "./transfers.ts"

/** How long an upload may go on after its claim or its key has ended, with some room for a busy machine. */
const endsWithin = 20_000
const slots = 32
const bytes = new Uint8Array(Buffer.from("some bytes"))

interface Subject {
  readonly baseUrl: string
  readonly adminKey: string
  dispose(): Promise<void>
}

const startEmbedded = async (extra: Record<string, string> = {}): Promise<Subject> => {
  const home = privateDir("ended")
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const env = { DATA_DIR: join(home.path, "data"), BOOTSTRAP_API_KEY: adminKey, ...extra }
  const node: ProductNode = await startNode({ env })
  const dispose = async () => {
    await node.kill9()
    home.remove()
  }
  return { baseUrl: node.baseUrl, adminKey, dispose }
}

const startProduction = async (extra: Record<string, string> = {}): Promise<Subject> => {
  const plane = await startPlane(extra)
  return { baseUrl: plane.node().baseUrl, adminKey: plane.adminKey, dispose: plane.dispose }
}

const drips: Array<() => void> = []
afterEach(() => {
  for (const end of drips.splice(0)) end()
})

/** Sends a byte of the file twice a second: progress, and as little of it as there is. */
const drip = (upload: SlowUpload): SlowUpload => {
  const timer = setInterval(() => void upload.send(Buffer.from("x")).catch(() => {}), 500)
  drips.push(() => {
    clearInterval(timer)
    upload.vanish()
  })
  return upload
}

/** What was answered within the time; undefined where nothing was. */
const answersOf = (uploads: ReadonlyArray<SlowUpload>, millis = endsWithin) =>
  Promise.all(uploads.map(({ answer }) => Promise.race([answer, sleep(millis).then(() => undefined)])))

const codesOf = (answers: ReadonlyArray<Answer | undefined>) =>
  answers.map((answer) => (answer === undefined ? "open" : `${answer.status} ${answer.body?.error?.code}`))

const until = async <A>(ask: () => Promise<A>, done: (value: A) => boolean, millis = endsWithin): Promise<A> => {
  const deadline = Date.now() + millis
  for (;;) {
    const value = await ask()
    if (done(value) || Date.now() > deadline) return value
    await sleep(200)
  }
}

describe.each([
  ["embedded", startEmbedded],
  ["Postgres and Redis", startProduction],
])("uploads whose right has ended, %s", (_, start) => {
  let subject: Subject
  beforeAll(async () => {
    subject = await start({ MAX_OPEN_UPLOADS: String(slots) })
  }, 120_000)
  afterAll(() => subject?.dispose())

  const tenantOf = (options: { readonly quotaBytes?: number } = {}) =>
    makeTenant(subject.baseUrl, subject.adminKey, options)
  const release = (tenant: Tenant) =>
    call(`${subject.baseUrl}/v1/projects/${tenant.project}/claims/${tenant.jobId}`, subject.adminKey, {
      method: "DELETE",
    })
  const revoke = async (tenant: Tenant) => {
    const keys = `${subject.baseUrl}/v1/admin/projects/${tenant.project}/api-keys`
    const { body } = await call(keys, subject.adminKey)
    for (const { id } of body.items ?? body)
      expect((await call(`${keys}/${id}`, subject.adminKey, { method: "DELETE" })).status).toBe(204)
  }
  const quota = async (tenant: Tenant) =>
    (await call(`${subject.baseUrl}/v1/projects/${tenant.project}/artifacts/quota`, tenant.key)).body
  const reserved = async ({ project }: Tenant) =>
    (await call(`${subject.baseUrl}/v1/admin/projects/${project}`, subject.adminKey)).body.reserved_bytes

  it("one tenant's drip leaves another a slot, and ends when the claim is released", { timeout: 120_000 }, async () => {
    const [hostile, honest] = [await tenantOf(), await tenantOf()]
    const uploads = Array.from({ length: 40 }, () => drip(beginUpload(subject.baseUrl, hostile, "drip.bin")))
    const refused = new Map<SlowUpload, Answer>()
    for (const upload of uploads)
      void upload.answer.then(
        (answer) => refused.set(upload, answer),
        () => {},
      )
    await until(
      async () => refused.size,
      (count) => count >= uploads.length - slots,
      60_000,
    )
    expect(codesOf([...refused.values()])).toEqual(Array(uploads.length - slots).fill("503 service_unavailable"))
    const open = uploads.filter((upload) => !refused.has(upload))
    expect((await publish(subject.baseUrl, honest, { name: "a.txt", bytes })).status).toBe(201)
    expect((await release(hostile)).status).toBe(204)
    const answers = await answersOf(open)
    expect(new Set(codesOf(answers))).toEqual(new Set(["409 lease_lost"]))
    expect(await quota(hostile)).toMatchObject({ used_bytes: 0, pending_count: 0 })
    expect(await reserved(hostile)).toBe(0)
  })

  it("the key's revocation ends uploads and replays alike", { timeout: 60_000 }, async () => {
    const tenant = await tenantOf()
    const made = await publish(subject.baseUrl, tenant, { name: "a.bin", bytes: new Uint8Array(1 << 20), key: "k" })
    expect(made.status).toBe(201)
    const uploads = [
      drip(beginUpload(subject.baseUrl, tenant, "drip.bin")),
      drip(beginUpload(subject.baseUrl, tenant, "a.bin", { key: "k" })),
    ]
    await until(
      () => quota(tenant),
      ({ pending_count }) => pending_count === 1,
    )
    expect(codesOf(await answersOf(uploads, 1500))).toEqual(["open", "open"])
    await revoke(tenant)
    expect(codesOf(await answersOf(uploads))).toEqual(["401 unauthorized", "401 unauthorized"])
    expect(await reserved(tenant)).toBe(0)
  })

  it("a stated length is free again once the claim that stated it has ended", { timeout: 60_000 }, async () => {
    const stated = 1_000_000_000
    const tenant = await tenantOf({ quotaBytes: stated })
    const url = `${subject.baseUrl}/v1/projects/${tenant.project}/claims/job-2`
    const claim = { worker_session_id: "session-2", attempt: 1, owner: { kind: "agent", id: "other" } }
    const taken = await call(url, subject.adminKey, { method: "PUT", body: JSON.stringify(claim) })
    const other = { ...tenant, jobId: "job-2", token: taken.body.lease_token }
    const file = { name: "b.bin", bytes: new Uint8Array(1 << 20) }
    const upload = beginUpload(subject.baseUrl, tenant, "large.bin", { contentLength: stated })
    await upload.send(Buffer.from("x"))
    await until(
      () => reserved(tenant),
      (now) => now > 0,
    )
    const refused = await publish(subject.baseUrl, other, file)
    expect({ status: refused.status, code: refused.body.error.code }).toEqual({ status: 413, code: "quota_exceeded" })
    expect((await release(tenant)).status).toBe(204)
    const answer = await until(
      () => publish(subject.baseUrl, other, file),
      ({ status }) => status === 201,
    )
    expect(answer.status).toBe(201)
    expect(codesOf(await answersOf([upload]))).toEqual(["409 lease_lost"])
    expect(await reserved(tenant)).toBe(0)
    upload.vanish()
  })
})

describe("uploads by a lease that a control plane answers for", () => {
  const answers: { say: "active" | "ended" | "nothing" } = { say: "active" }
  const server = createServer((request, response) => {
    let text = ""
    request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
    request.on("end", () => {
      if (answers.say === "nothing") return void response.writeHead(500).end()
      const { project } = JSON.parse(text)
      const claim = { job_id: "job-1", worker_session_id: "s", attempt: 1, owner: { kind: "agent", id: "owner" } }
      const active = { active: true, project, ...claim }
      response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify(answers.say === "active" ? active : { active: false }))
    })
  })
  let subject: Subject
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    subject = await startEmbedded({
      LEASE_INTROSPECTION_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/leases`,
      LEASE_INTROSPECTION_TOKEN: "introspection-secret",
    })
  }, 120_000)
  afterAll(async () => {
    await subject?.dispose()
    server.closeAllConnections()
    server.close()
  })

  it("go on while it does not answer, and end once it says that the lease has", { timeout: 90_000 }, async () => {
    const project = `tenant-${randomBytes(4).toString("hex")}`
    const admin = `${subject.baseUrl}/v1/admin/projects/${project}`
    await call(admin, subject.adminKey, { method: "PUT", body: "{}" })
    const issue = { principal: { kind: "agent", id: "worker" }, permissions: ["mobius.work.execute"] }
    const { body } = await call(`${admin}/api-keys`, subject.adminKey, { method: "POST", body: JSON.stringify(issue) })
    const tenant: Tenant = { project, key: body.key, jobId: "job-1", runId: "run-1", token: "control-plane-token" }
    const upload = drip(beginUpload(subject.baseUrl, tenant, "drip.bin"))
    expect(codesOf(await answersOf([upload], 1500))).toEqual(["open"])
    answers.say = "nothing"
    expect(codesOf(await answersOf([upload], 15_000))).toEqual(["open"])
    answers.say = "ended"
    expect(codesOf(await answersOf([upload]))).toEqual(["409 lease_lost"])
  })
})
