import { randomBytes } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "../faults/plane.ts"
import { startNode } from "../support/node.ts"
import { freePort } from "../support/ports.ts"
import { privateDir, sleep } from "../support/processes.ts"
import { startOtlpReceiver } from "./otlpReceiver.ts"

const bytes = new TextEncoder().encode("some bytes of an artifact\n")
const badKey = `mbx_${"b".repeat(64)}`
const badToken = `lease_${"c".repeat(64)}`
const signingSecret = randomBytes(32).toString("hex")

let plane: Plane
let metricsUrl: string
let receiver: Awaited<ReturnType<typeof startOtlpReceiver>>
let tenant: Tenant
let id: string
const secrets: Array<string> = [badKey, badToken, signingSecret]

const scrape = async () => {
  const response = await fetch(metricsUrl, { signal: AbortSignal.timeout(2000) })
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4")
  return response.text()
}
const until = async <A>(what: string, find: () => Promise<A | undefined> | A | undefined, withinMs = 15_000) => {
  for (const end = Date.now() + withinMs; ; await sleep(100)) {
    const found = await find()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error(`no ${what} within ${withinMs} ms`)
  }
}
const logLines = () =>
  plane
    .node()
    .logs()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, string>)

/** Publishes over a line on which the body's second half comes this much later. */
const publishSlowly = async (millis: number) => {
  const form = new FormData()
  form.append("name", "slow.txt")
  form.append("file", new Blob([bytes]), "slow.txt")
  const encoded = new Response(form)
  const body = Buffer.from(await encoded.arrayBuffer())
  const half = Math.floor(body.length / 2)
  const response = await fetch(`${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${tenant.key}`,
      "x-mobius-lease-token": tenant.token,
      "content-type": encoded.headers.get("content-type") ?? "",
    },
    body: (async function* () {
      yield body.subarray(0, half)
      await sleep(millis)
      yield body.subarray(half)
    })() as never,
    duplex: "half",
  } as RequestInit)
  expect(response.status).toBe(201)
}

beforeAll(async () => {
  receiver = await startOtlpReceiver()
  const port = await freePort()
  metricsUrl = `http://127.0.0.1:${port}/metrics`
  plane = await startPlane({
    METRICS_PORT: String(port),
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    LOG_LEVEL: "debug",
    URL_SIGNING_SECRET: signingSecret,
  })
  const { baseUrl } = plane.node()
  tenant = await makeTenant(baseUrl, plane.adminKey)
  secrets.push(plane.adminKey, tenant.key, tenant.token)

  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
  const form = new FormData()
  form.append("name", "a.txt")
  form.append("file", new Blob([bytes]), "a.txt")
  const published = await call(`${baseUrl}/v1/projects/${tenant.project}/artifacts`, tenant.key, {
    method: "POST",
    headers: { "x-mobius-lease-token": tenant.token, "x-request-id": "the-publish", traceparent },
    body: form,
  })
  expect(published.status).toBe(201)
  id = published.body.id
  const artifact = `${baseUrl}/v1/projects/${tenant.project}/artifacts/${id}`
  const content = await fetch(`${artifact}/content`, { headers: { authorization: `Bearer ${tenant.key}` } })
  expect((await content.arrayBuffer()).byteLength).toBe(bytes.length)
  const signed = await call(`${artifact}/signed-url`, tenant.key, { method: "POST" })
  const { searchParams } = new URL(signed.body.url)
  secrets.push(searchParams.get("signature") ?? "no signature")
  expect((await fetch(signed.body.url)).status).toBe(200)
  expect((await fetch(signed.body.url.replace("signature=", "signature=AAAA"))).status).toBe(403)
  expect((await call(artifact, badKey)).status).toBe(401)
  expect((await publish(baseUrl, { ...tenant, token: badToken }, { name: "b", bytes })).body.error.code).toBe(
    "lease_invalid",
  )
  expect((await fetch(`${baseUrl}/no/such/${randomBytes(8).toString("hex")}`)).status).toBe(404)
}, 120_000)

afterAll(async () => {
  await plane.dispose()
  receiver.stop()
}, 60_000)

describe("a node's metrics", () => {
  it("count requests by route and status, never by path, and refusals by code", async () => {
    const text = await scrape()
    const root = "/v1/projects/:project/artifacts"
    for (const series of [
      `artifact_http_requests_total{route="${root}",method="POST",status="201"} 1`,
      `artifact_http_requests_total{route="${root}",method="POST",status="403"} 1`,
      `artifact_http_requests_total{route="${root}/:id",method="GET",status="401"} 1`,
      `artifact_http_requests_total{route="${root}/:id/content",method="GET",status="200"} 1`,
      `artifact_http_requests_total{route="/v1/signed/:id/content",method="GET",status="200"} 1`,
      `artifact_http_requests_total{route="none",method="GET",status="404"} 1`,
      `artifact_http_request_duration_seconds_count{route="${root}",method="POST"} 2`,
      `artifact_refusals_total{code="lease_invalid"} 1`,
      `artifact_refusals_total{code="unauthorized"} 1`,
      `artifact_bytes_sent_total ${2 * bytes.length}`,
      "artifact_open_uploads 0",
      "artifact_open_downloads 0",
      "artifact_open_event_streams 0",
      "artifact_event_relay_refills_total 0",
      "artifact_event_relay_restores_total 0",
    ])
      expect(text).toContain(series)
    expect(text).not.toContain(id)
    expect(text).not.toContain(tenant.project)
  })

  it("tell what each dependency takes, what waits, which actors live here, and how the process does", async () => {
    const text = await until("backlog and actors", async () => {
      const now = await scrape()
      return /^artifact_removals_parked 0$/m.test(now) && /artifact_actors\{type="singleton"\} [1-9]/.test(now)
        ? now
        : undefined
    })
    for (const pattern of [
      /artifact_dependency_duration_seconds_count\{dependency="postgres",operation="MetadataStore.commit"\} 1$/m,
      /artifact_dependency_duration_seconds_count\{dependency="redis",operation="QuotaCounters.reserve"\} 1$/m,
      /artifact_dependency_duration_seconds_count\{dependency="blob_store",operation="BlobStore.finish"\} 1$/m,
      /artifact_dependency_duration_seconds_count\{dependency="redis",operation="EventBus.append"\} [1-9]/,
      /^artifact_outbox_lag_rows 0$/m,
      /^artifact_outbox_lag_seconds 0$/m,
      /^artifact_removals_waiting 0$/m,
      /^process_resident_memory_bytes \d{7,}/m,
      /^process_cpu_seconds_total [\d.]+$/m,
    ])
      expect(text).toMatch(pattern)
    expect(Number(/^artifact_bytes_received_total (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(bytes.length)
  })

  it("are there as 0 before the first of its kind, so that the first one counts as an increase", async () => {
    const text = await scrape()
    const root = "/v1/projects/:project/artifacts"
    for (const series of [
      'artifact_refusals_total{code="quota_exceeded"} 0',
      'artifact_refusals_total{code="lease_lost"} 0',
      'artifact_refusals_total{code="internal"} 0',
      'artifact_dependency_errors_total{dependency="postgres"} 0',
      'artifact_dependency_errors_total{dependency="redis"} 0',
      'artifact_dependency_errors_total{dependency="blob_store"} 0',
      'artifact_dependency_errors_total{dependency="lease_introspection"} 0',
      `artifact_http_requests_total{route="${root}",method="POST",status="503"} 0`,
      `artifact_http_requests_total{route="${root}",method="POST",status="500"} 0`,
      'artifact_http_requests_total{route="/v1/artifacts",method="POST",status="201"} 0',
      'artifact_http_requests_total{route="/v1/admin/projects/:project",method="GET",status="200"} 0',
    ])
      expect(text).toContain(`${series}\n`)
  })

  it("tell how late the event loop is as a histogram that no scrape resets", async () => {
    const count = (text: string) => Number(/^artifact_event_loop_delay_seconds_count (\d+)$/m.exec(text)?.[1])
    const [one, two] = [await scrape(), await scrape()]
    expect(one).not.toContain("quantile=")
    expect(one).toMatch(/^artifact_event_loop_delay_seconds_bucket\{le="0.25"\} [1-9]\d*$/m)
    expect(count(one)).toBeGreaterThan(10)
    expect(count(two)).toBeGreaterThanOrEqual(count(one))
  })

  it("tell how far the database is from a forced vacuum", async () => {
    const text = await until("ages", async () => {
      const now = await scrape()
      return /^artifact_postgres_transaction_id_age \d+$/m.test(now) ? now : undefined
    })
    const age = (of: string) => Number(new RegExp(`^artifact_postgres_${of}_age (\\d+)$`, "m").exec(text)?.[1])
    expect(age("transaction_id")).toBeGreaterThan(0)
    expect(age("transaction_id")).toBeLessThan(2 ** 31)
    expect(age("multixact")).toBeGreaterThanOrEqual(0)
  })

  it("part an upload's time into the client's and the node's own", async () => {
    const sum = (text: string, part: string) =>
      Number(new RegExp(`^artifact_upload_${part}_seconds_sum ([\\d.e-]+)$`, "m").exec(text)?.[1] ?? Number.NaN)
    const count = (text: string, part: string) =>
      Number(new RegExp(`^artifact_upload_${part}_seconds_count (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN)
    const before = await scrape()
    // One was published, and one refused: only what became an artifact is timed.
    expect([count(before, "receive"), count(before, "answer")]).toEqual([1, 1])
    await publishSlowly(1500)
    const after = await until("the slow upload", async () => {
      const now = await scrape()
      return count(now, "answer") === 2 ? now : undefined
    })
    const [receive, answer] = ["receive", "answer"].map((part) => sum(after, part) - sum(before, part))
    expect(receive).toBeGreaterThan(1.4)
    expect(answer).toBeGreaterThan(0)
    expect(answer).toBeLessThan(receive ?? 0)
  })

  it("count an open event stream while it is open", async () => {
    const stop = new AbortController()
    const url = `${plane.node().baseUrl}/v1/projects/${tenant.project}/events`
    const stream = await fetch(url, { headers: { authorization: `Bearer ${tenant.key}` }, signal: stop.signal })
    expect(stream.status).toBe(200)
    expect(await scrape()).toContain("artifact_open_event_streams 1")
    stop.abort()
    await until("end of the stream", async () =>
      (await scrape()).includes("artifact_open_event_streams 0") ? true : undefined,
    )
  })

  it("a port that is taken is one line that names the key", async () => {
    const home = privateDir("metrics")
    const port = new URL(metricsUrl).port
    await expect(startNode({ env: { DATA_DIR: home.path, METRICS_PORT: port } })).rejects.toThrow(
      `METRICS_PORT ${port} cannot be listened on`,
    )
    home.remove()
  })
})

describe("a node's traces", () => {
  it("show a publish as one trace with the steps of the walk, within the caller's", async () => {
    const walk = [
      "POST /v1/projects/:project/artifacts",
      "publish",
      "LeaseVerifier.verify",
      "MetadataStore.begin",
      "QuotaCounters.reserve",
      "ContentHasher.receive",
      "BlobStore.open",
      "BlobStore.finish",
      "MetadataStore.commit",
      "QuotaCounters.commit",
    ]
    const trace = await until("whole trace", () => {
      const spans = receiver.spans().filter(({ traceId }) => traceId === "0af7651916cd43dd8448eb211c80319c")
      return walk.every((name) => spans.some((span) => span.name === name)) ? spans : undefined
    })
    const ids = new Set(["b7ad6b7169203331", ...trace.map(({ spanId }) => spanId)])
    for (const span of trace) expect(ids).toContain(span.parentSpanId)
    const attributes = Object.fromEntries(
      trace.find(({ name }) => name === "publish")?.attributes.map(({ key, value }) => [key, value]) ?? [],
    )
    expect(attributes).toMatchObject({
      artifact_id: { stringValue: id },
      project: { stringValue: tenant.project },
    })
  })
})

describe("a node's log", () => {
  it("is JSON, and a publish's line has the ids of request, project and artifact", async () => {
    const line = await until("the publish's line", () =>
      logLines().find(({ message, request_id }) => message === "published" && request_id === "the-publish"),
    )
    expect(line).toMatchObject({ level: "debug", project: tenant.project, artifact_id: id })
    expect(new Date(line["time"] ?? "").getTime()).toBeGreaterThan(Date.now() - 600_000)
  })

  it("says which request failed, about what, and why, when a dependency is away; a scrape does not wait for it", async () => {
    const refusals = (text: string) =>
      Number(/^artifact_refusals_total\{code="service_unavailable"\} (\d+)$/m.exec(text)?.[1])
    const before = await scrape()
    await plane.postgres.stop()
    try {
      const url = `${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/${id}`
      const response = await fetch(url, {
        headers: { authorization: `Bearer ${tenant.key}`, "x-request-id": "the-fault" },
      })
      expect(response.status).toBe(503)
      expect(response.headers.get("x-request-id")).toBe("the-fault")
      const line = await until("the fault's line", () =>
        logLines().find(({ request_id }) => request_id === "the-fault"),
      )
      expect(line).toMatchObject({ level: "error", project: tenant.project, artifact_id: id })
      expect(line["message"]).toMatch(/^postgres unavailable: /)
      expect(line["error"]).not.toBe("")
      const text = await until("an unknown backlog", async () => {
        const now = await scrape()
        return now.includes("artifact_outbox_lag_rows NaN") ? now : undefined
      })
      expect(text).toMatch(/artifact_dependency_errors_total\{dependency="postgres"\} [1-9]/)
      expect(refusals(text)).toBe(refusals(before) + 1)
    } finally {
      await plane.postgres.start()
    }
    await until("a known backlog", async () =>
      (await scrape()).includes("artifact_outbox_lag_rows NaN") ? undefined : true,
    )
  }, 60_000)
})

describe("secrets", () => {
  it("are in none of it: log, metrics, traces", async () => {
    await until("spans of the signed URL", () =>
      receiver.spans().some(({ name }) => name.includes("/v1/signed/")) ? true : undefined,
    )
    const everything = { log: plane.node().logs(), metrics: await scrape(), traces: receiver.text() }
    expect(secrets).toHaveLength(7)
    for (const [where, text] of Object.entries(everything)) {
      expect(text.length, where).toBeGreaterThan(1000)
      for (const secret of secrets) expect(text.includes(secret), `${secret.slice(0, 9)}… in ${where}`).toBe(false)
    }
  })
})
