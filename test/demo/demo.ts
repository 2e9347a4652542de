import { createHash, randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { startNode } from "../support/node.ts"
import { privateDir } from "../support/processes.ts"

/** The whole story of an artifact in one terminal, on a node of embedded parts made for it. Exit code 0: all held. */
const checks: Array<{ readonly what: string; readonly held: boolean; readonly seen: string }> = []
const check = (what: string, held: boolean, seen: unknown) => {
  checks.push({ what, held, seen: String(seen) })
  console.log(`  ${held ? "✓" : "✗"} ${what}: ${String(seen)}`)
}
const chapter = (title: string) => console.log(`\n${title}`)
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

const home = privateDir("demo")
const dataDir = join(home.path, "data")
console.log("Starting a node on embedded parts …")
const node = await startNode({ env: { DATA_DIR: dataDir } })
const { admin_key: admin } = JSON.parse(readFileSync(join(dataDir, "dev-credentials.json"), "utf8"))
const project = `${node.baseUrl}/v1/projects/story`

const call = async (url: string, key: string | undefined, init: RequestInit & { json?: unknown } = {}) => {
  const headers = new Headers(init.headers)
  if (key !== undefined) headers.set("authorization", `Bearer ${key}`)
  if (init.json !== undefined) headers.set("content-type", "application/json")
  const body = init.json === undefined ? init.body : JSON.stringify(init.json)
  const response = await fetch(url, { ...init, headers, body: body ?? null })
  const bytes = new Uint8Array(await response.arrayBuffer())
  const json = response.headers.get("content-type")?.startsWith("application/json") === true && bytes.length > 0
  return {
    status: response.status,
    headers: response.headers,
    bytes,
    body: json ? JSON.parse(new TextDecoder().decode(bytes)) : undefined,
  }
}

const form = (name: string, bytes: Uint8Array<ArrayBuffer>, fields: Record<string, string> = {}) => {
  const data = new FormData()
  data.append("name", name)
  for (const [field, value] of Object.entries(fields)) data.append(field, value)
  data.append("file", new Blob([bytes], { type: "image/png" }), "file")
  return data
}

try {
  chapter("A project, its keys, and a claim")
  const made = await call(`${node.baseUrl}/v1/admin/projects/story`, admin, {
    method: "PUT",
    json: { quota_bytes: 64 * 1024 * 1024 },
  })
  check("the project has a quota", made.status < 300, `${made.body.limit_bytes} bytes`)
  const keyOf = async (id: string, permissions: ReadonlyArray<string>) =>
    (
      await call(`${node.baseUrl}/v1/admin/projects/story/api-keys`, admin, {
        method: "POST",
        json: { principal: { kind: "agent", id }, permissions },
      })
    ).body.key
  const worker = await keyOf("worker", ["mobius.work.execute"])
  const reader = await keyOf("reader", ["mobius.project.view"])
  const editor = await keyOf("editor", ["mobius.project.view", "mobius.project.edit"])
  const claim = {
    run_id: "run-7",
    step_id: "render",
    worker_session_id: "session-1",
    attempt: 1,
    owner: { kind: "agent", id: "painter" },
    lease_seconds: 60,
  }
  const claimed = await call(`${project}/claims/job-7`, admin, { method: "PUT", json: claim })
  check("the claim is held", claimed.status === 201, `until ${claimed.body.expires_at}`)
  const lease = { "x-mobius-lease-token": claimed.body.lease_token }

  chapter("Publishing under the lease")
  const picture = randomBytes(8 * 1024 * 1024)
  const publish = (headers: Record<string, string>, data: FormData) =>
    call(`${project}/artifacts`, worker, { method: "POST", headers, body: data })
  const first = await publish(
    { ...lease, "idempotency-key": "picture-1" },
    form("renders/picture.png", picture, { sha256: sha256(picture) }),
  )
  check(
    "8 MiB were published",
    first.status === 201 && first.body.size === picture.length,
    `${first.status} ${first.body.id}`,
  )
  check(
    "run, owner and visibility came from the claim",
    first.body.run_id === "run-7" && first.body.owner.id === "painter",
    `${first.body.run_id}, ${first.body.owner.id}, ${first.body.visibility}`,
  )
  const again = await publish({ ...lease, "idempotency-key": "picture-1" }, form("renders/picture.png", picture))
  check(
    "a replay with the same key is the same artifact",
    again.status === 200 && again.body.id === first.body.id,
    `${again.status} ${again.body.id}`,
  )
  const note = await publish(
    lease,
    form("notes/readme.md", readFileSync(join(import.meta.dirname, "../../README.md")), { mime: "text/markdown" }),
  )
  check("a small file too", note.status === 201, `${note.status} ${note.body.size} bytes`)
  const forged = await publish(lease, form("forged.png", picture, { run_id: "somebody-else's" }))
  check(
    "a forged lineage is refused",
    forged.status === 400 && forged.body.error.code === "lineage_not_allowed",
    `${forged.status} ${forged.body.error.code}`,
  )

  chapter("Reading")
  const list = await call(`${project}/artifacts?run_id=run-7`, reader)
  check(
    "the run lists both, newest first",
    list.body.items.length === 2 && list.body.items[0].id === note.body.id,
    list.body.items.map((item: { name: string }) => item.name).join(", "),
  )
  const range = await call(`${project}/artifacts/${first.body.id}/content`, reader, {
    headers: { range: "bytes=1000000-1999999" },
  })
  check(
    "a ranged download",
    range.status === 206 && Buffer.from(range.bytes).equals(picture.subarray(1_000_000, 2_000_000)),
    `${range.status} ${range.headers.get("content-range")}`,
  )
  const whole = await call(`${project}/artifacts/${first.body.id}/content`, reader)
  check("the whole matches its digest", sha256(whole.bytes) === first.body.sha256, whole.headers.get("repr-digest"))
  const signed = await call(`${project}/artifacts/${first.body.id}/signed-url?ttl_seconds=60`, reader, {
    method: "POST",
  })
  const unkeyed = await call(signed.body.url, undefined)
  check(
    "a signed URL needs no key",
    unkeyed.status === 200 && sha256(unkeyed.bytes) === first.body.sha256,
    `${unkeyed.status}, until ${signed.body.expires_at}`,
  )

  chapter("Events and quota")
  const wait = async (count: number) => {
    for (let attempt = 0; attempt < 50; attempt++) {
      const page = await call(`${node.baseUrl}/v1/admin/events?after=0&limit=100`, admin)
      const mine = page.body.items.filter((item: { meta: { project: string } }) => item.meta.project === "story")
      if (mine.length >= count) return mine
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    return []
  }
  const created = await wait(2)
  check(
    "each creation is one event",
    created.length === 2,
    created
      .map((item: { event_type: string; meta: { sequence: number } }) => `${item.meta.sequence} ${item.event_type}`)
      .join(", "),
  )
  const before = await call(`${project}/artifacts/quota`, reader)
  const removed = await call(`${project}/artifacts/${first.body.id}`, editor, { method: "DELETE" })
  const after = await call(`${project}/artifacts/quota`, reader)
  check(
    "a delete frees its bytes at once",
    removed.status === 204 && before.body.used_bytes - after.body.used_bytes === picture.length,
    `${before.body.used_bytes} → ${after.body.used_bytes}`,
  )
  const dead = await call(signed.body.url, undefined)
  check("its signed URL died with it", dead.status === 404, dead.status)

  chapter("The lease is lost")
  await call(`${project}/claims/job-7`, admin, {
    method: "PUT",
    json: { ...claim, worker_session_id: "session-2", attempt: 2 },
  })
  const late = await publish(lease, form("late.png", picture))
  check(
    "a superseded worker publishes nothing",
    late.status === 409 && late.body.error.code === "lease_lost",
    `${late.status} ${late.body.error.code}`,
  )
} catch (error) {
  check("the story runs to its end", false, error instanceof Error ? error.message : error)
} finally {
  await node.stop().catch(() => {})
  home.remove()
}

console.log("\nChecked:")
console.table(Object.fromEntries(checks.map(({ what, held }) => [what, { held: held ? "yes" : "NO" }])))
process.exit(checks.every(({ held }) => held) ? 0 : 1)
