import { randomBytes } from "node:crypto"
import { readdirSync, readlinkSync, statSync } from "node:fs"
import { request } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { sleep } from "../support/processes.ts"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"
import { beginUpload } from "./transfers.ts"

const MiB = 1024 * 1024

let plane: Plane
let tenant: Tenant

beforeAll(async () => {
  plane = await startPlane({ UPLOAD_IDLE_SECONDS: "1" })
  tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
}, 120_000)
afterAll(async () => {
  await plane?.dispose()
})

/** Files of the store that the node has open; its folders stay open for their syncs. */
const openFiles = () => {
  const descriptors = `/proc/${plane.node().pid}/fd`
  return readdirSync(descriptors).filter((fd) => {
    try {
      const target = readlinkSync(`${descriptors}/${fd}`)
      return target.startsWith(plane.blobDir) && !statSync(`${descriptors}/${fd}`).isDirectory()
    } catch {
      return false
    }
  }).length
}

const settles = async (what: () => unknown, expected: unknown) => {
  const until = Date.now() + 5000
  while (JSON.stringify(await what()) !== JSON.stringify(expected) && Date.now() < until) await sleep(50)
  expect(await what()).toEqual(expected)
}

const held = async () => {
  const { body } = await call(`${plane.node().baseUrl}/v1/admin/projects/${tenant.project}`, plane.adminKey)
  return body.reserved_bytes as number
}

describe("clients that vanish or stall", { timeout: 30_000 }, () => {
  it("a download whose client goes away lets go of its file", async () => {
    const { body } = await publish(plane.node().baseUrl, tenant, { name: "large", bytes: randomBytes(32 * MiB) })
    const leave = await Promise.all(
      Array.from(
        { length: 20 },
        () =>
          new Promise<() => void>((resolve, reject) => {
            const req = request(
              `${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts/${body.id}/content`,
              { agent: false, headers: { authorization: `Bearer ${tenant.key}` } },
              (res) => {
                res.on("error", () => {})
                res.once("readable", () => resolve(() => void req.destroy()))
              },
            )
            req.on("error", reject)
            req.end()
          }),
      ),
    )
    // All read from one descriptor, which stays while any of them does.
    expect(openFiles()).toBe(1)
    for (const go of leave.splice(1)) go()
    await sleep(500)
    expect(openFiles()).toBe(1)
    for (const go of leave) go()
    await settles(openFiles, 0)
  })

  it("an upload whose client goes away leaves no room taken and no file", async () => {
    const upload = beginUpload(plane.node().baseUrl, tenant, "gone")
    await upload.send(randomBytes(MiB))
    await settles(async () => [openFiles(), (await held()) > 0], [1, true])
    upload.vanish()
    await settles(async () => [openFiles(), await held()], [0, 0])
  })

  it("an upload that stalls is ended with an answer, and leaves as little", async () => {
    const upload = beginUpload(plane.node().baseUrl, tenant, "stalled")
    await upload.send(randomBytes(MiB))
    const began = performance.now()
    const { body, headers, status } = await upload.answer
    expect(performance.now() - began).toBeGreaterThan(900)
    expect(status).toBe(400)
    expect(body.error.code).toBe("bad_request")
    expect(headers.connection).toBe("close")
    upload.vanish()
    await settles(async () => [openFiles(), await held()], [0, 0])
  })
})
