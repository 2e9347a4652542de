import { randomBytes } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { s3Environment, type S3Server, startS3StandIn } from "../support/s3.ts"
import { sleep } from "../support/processes.ts"
import { makeTenant, type Plane, sha256, startPlane } from "./plane.ts"
import { beginUpload } from "./transfers.ts"

const KiB = 1024
/** Everything unfinished is old after a second, and looked for each second. */
const sweeping = { ORPHAN_AGE_SECONDS: "1", ORPHAN_SWEEP_SECONDS: "1" }

describe.each(["files", "S3"])("an upload that takes much longer than ORPHAN_AGE_SECONDS, on %s", (store) => {
  let s3: S3Server | undefined
  let plane: Plane
  beforeAll(async () => {
    if (store === "S3") s3 = await startS3StandIn()
    plane = await startPlane({ ...sweeping, ...(s3 && s3Environment(s3)) })
  }, 120_000)
  afterAll(async () => {
    await plane?.dispose()
    await s3?.stop()
  })

  it("survives every sweep of unfinished writes, and is whole", { timeout: 60_000 }, async () => {
    const { baseUrl } = plane.node()
    const tenant = await makeTenant(baseUrl, plane.adminKey)
    const upload = beginUpload(baseUrl, tenant, "slow.bin")
    // More than one part of S3's, and more than a file gathers before it is opened.
    const begin = randomBytes(11 * KiB * KiB)
    const rest = Array.from({ length: 6 }, () => randomBytes(4 * KiB))
    await upload.send(begin)
    for (const piece of rest) {
      await sleep(1000)
      await upload.send(piece)
    }
    upload.finish()
    const whole = Buffer.concat([begin, ...rest])
    const { body, status } = await upload.answer
    expect({ status, sha256: body?.sha256, error: body?.error }).toEqual({ status: 201, sha256: sha256(whole) })
  })
})
