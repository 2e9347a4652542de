import { describe, it } from "vitest"
import { HostileUploads } from "./support/hostileUploads.ts"
import { inChunks } from "./support/multipart.ts"
import { head } from "./support/socket.ts"
import { expectRefusal, send } from "./support/wire.ts"
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

  it("over 1 MiB are refused with 413, with and without a Content-Length", async () => {
    const large = Buffer.from(JSON.stringify({ pad: "x".repeat(1024 * KiB) }))
    for (const [method, path] of routes()) {
      expectRefusal(await sendJson(method, path, large), 413, "payload_too_large")
      expectRefusal(await sendJson(method, path, inChunks(large, 64 * KiB)), 413, "payload_too_large")
    }
  })

  it.each(["{", "[]", "null", '"text"', "1", "{'a':1}", '{"a":1}}', "\0", `${"[".repeat(100_000)}`, '{"__proto__":'])(
    "that are no object are refused: %.20s",
    async (body) => {
      for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
    },
  )

  it("that are not UTF-8 are refused", async () => {
    const body = Buffer.from('{"a":"\xff"}', "latin1")
    for (const [method, path] of routes()) expectRefusal(await sendJson(method, path, body), 400, "bad_request")
  })

  it("nested 100,000 deep are refused", async () => {
    const body = `{"quota_bytes":${"[".repeat(100_000)}${"]".repeat(100_000)}}`
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

  it("that never come whole are no reason to wait for ever", async () => {
    const socket = await uploads.connect()
    const headers = {
      Authorization: `Bearer ${target.adminKey}`,
      "Content-Type": "application/json",
      "Content-Length": "9",
    }
    socket.write(head(`/v1/admin/projects/${uploads.scene.handle}/api-keys`, headers) + '{"a"')
    expectRefusal(await socket.answer(40_000), 400, "bad_request")
  }, 45_000)
})
