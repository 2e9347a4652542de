import { describe, expect, it } from "vitest"
import { HostileUploads } from "./support/hostileUploads.ts"
import { inChunks } from "./support/multipart.ts"
import { head } from "./support/socket.ts"
import { expectRefusal, expectStatus, send } from "./support/wire.ts"
import { target } from "./target.ts"

const KiB = 1024
const uploads = new HostileUploads()

describe("JSON bodies", () => {
  const routes = () =>
    [
      ["PUT", `/v1/admin/projects/${uploads.scene.handle}`],
      ["POST", `/v1/admin/projects/${uploads.scene.handle}/api-keys`],
      ["PUT", `/v1/projects/${uploads.scene.handle}/claims/job`],
    ] as const
  const sendJson = (method: string, path: string, body: string | Uint8Array | AsyncIterable<Uint8Array>) =>
    send(path, {
      method,
      headers: { Authorization: `Bearer ${target.adminKey}`, "Content-Type": "application/json" },
      body,
    })

  it("over 64 KiB are refused with 413, with and without a Content-Length", async () => {
    const large = Buffer.from(JSON.stringify({ pad: "x".repeat(64 * KiB) }))
    for (const [method, path] of routes()) {
      expectRefusal(await sendJson(method, path, large), 413, "payload_too_large")
      expectRefusal(await sendJson(method, path, inChunks(large, 16 * KiB)), 413, "payload_too_large")
    }
  })

  it.each(["{", "[]", "null", '"text"', "1", "{'a':1}", '{"a":1}}', "\0", `${"[".repeat(60_000)}`, '{"__proto__":'])(
    "that are no object are refused: %.20s",
    async (body) => {
      for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
    },
  )

  it("that are not UTF-8 are refused", async () => {
    const body = Buffer.from('{"a":"\xff"}', "latin1")
    for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
  })

  it("nested 30,000 deep are refused", async () => {
    const body = `{"quota_bytes":${"[".repeat(30_000)}${"]".repeat(30_000)}}`
    for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
  })

  it.each([
    ["session\0", "worker_session_id"],
    ["run\0", "run_id"],
    ["\ud800", "step_id"],
  ])("with %j as an id are refused", async (value, name) => {
    const answer = await uploads.scene.putClaim("hostile", { ...uploads.scene.claimBody(), [name]: value })
    expectRefusal(answer, 400, "bad_request")
  })

  it("of another type are refused", async () => {
    const answer = await send(`/v1/admin/projects/${uploads.scene.handle}`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${target.adminKey}`, "Content-Type": "text/xml" },
      body: "<a/>",
    })
    expectRefusal(answer, 400, "bad_request")
  })

  const idleMillis = target.uploadIdleSeconds * 1000
  const begin = async (length: number) => {
    const socket = await uploads.connect()
    const headers = {
      Authorization: `Bearer ${target.adminKey}`,
      "Content-Type": "application/json",
      "Content-Length": String(length),
    }
    socket.write(head(`/v1/admin/projects/${uploads.scene.handle}/api-keys`, headers))
    return socket
  }

  it(
    "that stand still are refused after UPLOAD_IDLE_SECONDS",
    async () => {
      const socket = await begin(9)
      socket.write('{"a"')
      const { message } = expectRefusal(await socket.answer(idleMillis + 10_000), 400, "bad_request")
      expect(message).toContain(`${target.uploadIdleSeconds} seconds`)
    },
    idleMillis + 20_000,
  )

  it(
    "that make progress are taken, however long it takes",
    async () => {
      const issue = { principal: { kind: "agent", id: "slow" }, permissions: ["mobius.project.view"] }
      const bytes = Buffer.from(JSON.stringify(issue))
      const socket = await begin(bytes.length)
      for await (const chunk of inChunks(bytes, Math.ceil(bytes.length / 6), idleMillis * 0.4)) socket.write(chunk)
      expectStatus(await socket.answer(), 201)
    },
    idleMillis * 3 + 20_000,
  )
})
