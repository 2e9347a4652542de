import { beforeAll, describe, expect, it } from "vitest"
import { field, filePart, inTwoHalves, multipart } from "./support/multipart.ts"
import { permissions, Scene } from "./support/scene.ts"
import { api, expectRefusal, expectStatus, sleep } from "./support/wire.ts"

describe("leases", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })
  const body = multipart([field("name", "a.bin"), filePart("bytes")])

  it("refuses a missing lease header with 403 lease_required", async () => {
    expectRefusal(await scene.post(body, { lease: null }), 403, "lease_required")
  })

  it("refuses an unknown token with 403 lease_invalid, and never falls back to lease-free publishing", async () => {
    const key = await scene.newKey("agent", [permissions.execute, permissions.edit])
    expectRefusal(await scene.post(body, { key: key.key, lease: `lease_${"0".repeat(64)}` }), 403, "lease_invalid")
    expectRefusal(await scene.post(body, { lease: "nonsense" }), 403, "lease_invalid")
  })

  it("refuses a token of another project with 403 lease_invalid", async () => {
    const other = await Scene.open()
    expectRefusal(await scene.post(body, { lease: other.held.token }), 403, "lease_invalid")
  })

  it("refuses a token of another worker's principal with 403 lease_invalid", async () => {
    const held = await scene.claim({ worker_principal_id: "somebody-else" })
    expectRefusal(await scene.post(body, { lease: held.token }), 403, "lease_invalid")
    const mine = await scene.claim({ worker_principal_id: scene.worker.principal.id })
    expectStatus(await scene.post(body, { lease: mine.token }), 201)
  })

  it("needs mobius.work.execute, and names it", async () => {
    const { details } = expectRefusal(await scene.post(body, { key: scene.reader.key }), 403, "permission_denied")
    expect(details.permission).toBe("mobius.work.execute")
  })

  it("refuses an expired lease with 409 lease_lost", async () => {
    const held = await scene.claim({ lease_seconds: 5 })
    await sleep(5_500)
    const { details } = expectRefusal(await scene.post(body, { lease: held.token }), 409, "lease_lost")
    expect(details).toEqual({ reason: "expired", job_id: held.jobId, attempt: 1 })
  })

  it("refuses a released lease with 409 lease_lost", async () => {
    const held = await scene.claim()
    expectStatus(await scene.release(held), 204)
    const { details } = expectRefusal(await scene.post(body, { lease: held.token }), 409, "lease_lost")
    expect(details.reason).toBe("released")
  })

  it("refuses a superseded lease with 409 lease_lost, and admits the later attempt's", async () => {
    const first = await scene.claim()
    const second = await scene.claim({ job_id: first.jobId, attempt: 2, worker_session_id: "session-2" })
    const { details } = expectRefusal(await scene.post(body, { lease: first.token }), 409, "lease_lost")
    expect(details.reason).toBe("superseded")
    const { json } = expectStatus(await scene.post(body, { lease: second.token }), 201)
    expect(json).toMatchObject({ attempt: 2, worker_session_id: "session-2", job_id: first.jobId })
  })

  it("leaves no trace of an upload whose claim was lost in the middle", async () => {
    const alone = await Scene.open()
    const large = multipart([field("name", "long.bin"), filePart(Buffer.alloc(400_000, 7))])
    const { chunks, reached, resume } = inTwoHalves(large.bytes)
    const answer = alone.post(large, { chunked: chunks })
    await reached
    await alone.claim({ job_id: alone.held.jobId, attempt: 2 })
    resume()
    expect(expectRefusal(await answer, 409, "lease_lost").details.reason).toBe("superseded")
    await sleep(500)
    await alone.expectUntouched()
  })
})

describe("claims", () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await Scene.open()
  })

  it("answers 201 with a token, its end and how often to beat", async () => {
    const { json } = expectStatus(await scene.putClaim("job:1", scene.claimBody({ lease_seconds: 60 })), 201)
    expect(json.lease_token).toMatch(/^lease_/)
    expect(Date.parse(json.expires_at)).toBeGreaterThan(Date.now() + 50_000)
    expect(json.heartbeat_seconds).toBeGreaterThan(0)
  })

  it("answers the same attempt, session and body with 200 and a new token; the former dies", async () => {
    const held = await scene.claim()
    const again = expectStatus(await scene.putClaim(held.jobId, held.body), 200).json
    expect(again.lease_token).not.toBe(held.token)
    const body = multipart([field("name", "a"), filePart("a")])
    const { details } = expectRefusal(await scene.post(body, { lease: held.token }), 409, "lease_lost")
    expect(details.reason).toBe("superseded")
    expectStatus(await scene.post(body, { lease: again.lease_token }), 201)
  })

  it("refuses another body, a lower attempt or an ended attempt with 409 claim_superseded", async () => {
    const held = await scene.claim({ attempt: 3 })
    const put = (change: object) => scene.putClaim(held.jobId, { ...held.body, ...change })
    expectRefusal(await put({ worker_session_id: "other" }), 409, "claim_superseded")
    expectRefusal(await put({ attempt: 2 }), 409, "claim_superseded")
    expectStatus(await scene.release(held), 204)
    expectRefusal(await put({}), 409, "claim_superseded")
  })

  it("prolongs a live claim by its heartbeat, and answers 409 lease_lost after its end", async () => {
    const held = await scene.claim({ lease_seconds: 30 })
    const beat = (token: string) =>
      api(scene.worker.key, "POST", `/v1/projects/${scene.handle}/claims/${held.jobId}/heartbeat`, undefined, {
        "X-Mobius-Lease-Token": token,
      })
    const { json } = expectStatus(await beat(held.token), 200)
    expect(Date.parse(json.expires_at)).toBeGreaterThan(Date.now() + 20_000)
    expectStatus(await scene.release(held), 204)
    expect(expectRefusal(await beat(held.token), 409, "lease_lost").details.reason).toBe("released")
    expectRefusal(await beat("lease_unknown"), 403, "lease_invalid")
  })

  it("needs mobius.claims.manage or the admin key", async () => {
    expectRefusal(await scene.putClaim("job:2", scene.claimBody(), scene.worker.key), 403, "permission_denied")
    const manager = await scene.newKey("service", [permissions.claims])
    expectStatus(await scene.putClaim("job:2", scene.claimBody(), manager.key), 201)
  })

  it.each([
    ["attempt", "one"],
    ["attempt", -1],
    ["lease_seconds", 4],
    ["lease_seconds", 86_401],
    ["visibility", "public"],
    ["owner", { kind: "robot", id: "x" }],
    ["worker_session_id", "x".repeat(201)],
  ])("refuses %s = %j with 400", async (name, value) => {
    expectRefusal(await scene.putClaim("job:3", { ...scene.claimBody(), [name]: value }), 400, "bad_request")
  })
})
