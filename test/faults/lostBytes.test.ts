import { DeleteObjectCommand, S3Client } from "@aws-sdk/client-s3"
import { randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, renameSync, rmSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { freePort } from "../support/ports.ts"
import { sleep } from "../support/processes.ts"
import { s3Environment, type S3Server, startS3StandIn } from "../support/s3.ts"
import { call, makeTenant, type Plane, publish, startPlane, type Tenant } from "./plane.ts"

const within = (plane: Plane, tenant: Tenant) => {
  const artifacts = `${plane.node().baseUrl}/v1/projects/${tenant.project}/artifacts`
  return {
    publish: async () => {
      const { body } = await publish(plane.node().baseUrl, tenant, { name: "file", bytes: randomBytes(30_000) })
      return body.id as string
    },
    content: (id: string, init: RequestInit = {}) => call(`${artifacts}/${id}/content`, tenant.key, init),
    signed: async (id: string) => {
      const { body } = await call(`${artifacts}/${id}/signed-url`, tenant.key, { method: "POST" })
      return body.url as string
    },
    remove: (id: string) => call(`${artifacts}/${id}`, tenant.key, { method: "DELETE" }),
  }
}

const lost = { status: 410, body: { error: { code: "content_lost" } } }

describe("bytes that are gone from the file store", { timeout: 60_000 }, () => {
  let plane: Plane
  let tenant: Tenant
  let metrics: string
  beforeAll(async () => {
    const port = await freePort()
    metrics = `http://127.0.0.1:${port}/metrics`
    plane = await startPlane({ METRICS_PORT: String(port) })
    tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
  }, 120_000)
  afterAll(() => plane?.dispose())

  const fileOf = (id: string) => {
    const [entry] = readdirSync(join(plane.blobDir, "objects"), { recursive: true, withFileTypes: true }).filter(
      ({ name }) => name.endsWith(id),
    )
    if (entry === undefined) throw new Error(`no file of ${id}`)
    return join(entry.parentPath, entry.name)
  }
  const counted = async () => {
    const text = await (await fetch(metrics)).text()
    return Number(/^artifact_content_lost_total (\d+)/m.exec(text)?.[1] ?? Number.NaN)
  }

  it("are 410 content_lost for key and signed URL, counted and logged; a delete then ends it", async () => {
    const own = within(plane, tenant)
    const id = await own.publish()
    const url = await own.signed(id)
    const before = await counted()
    unlinkSync(fileOf(id))
    expect(await own.content(id)).toMatchObject(lost)
    expect(await own.content(id, { headers: { range: "bytes=0-9" } })).toMatchObject(lost)
    expect(await call(url, tenant.key)).toMatchObject(lost)
    expect(await counted()).toBe(before + 3)
    expect(plane.node().logs()).toMatch(new RegExp(`gone.*${id}`))
    expect((await own.remove(id)).status).toBe(204)
    expect((await own.content(id)).status).toBe(404)
  })

  it("are not lost while their folder is away: that is 503, and all is there again with it", async () => {
    const own = within(plane, tenant)
    const id = await own.publish()
    const objects = join(plane.blobDir, "objects")
    renameSync(objects, `${objects}-away`)
    try {
      expect((await own.content(id)).status).toBe(503)
      mkdirSync(objects)
      expect((await own.content(id)).status).toBe(503)
    } finally {
      rmSync(objects, { recursive: true, force: true })
      renameSync(`${objects}-away`, objects)
    }
    await sleep(1200)
    expect((await own.content(id)).status).toBe(200)
  })

  it("are 404 when a delete took them meanwhile", async () => {
    const own = within(plane, tenant)
    const ids = await Promise.all(Array.from({ length: 20 }, () => own.publish()))
    const answers = await Promise.all(
      ids.flatMap((id) => [own.remove(id), ...Array.from({ length: 5 }, () => own.content(id))]),
    )
    expect(answers.filter(({ status }) => ![200, 204, 404].includes(status))).toEqual([])
  })
})

describe("bytes that are gone from the bucket", { timeout: 60_000 }, () => {
  let s3: S3Server
  let plane: Plane
  beforeAll(async () => {
    s3 = await startS3StandIn()
    plane = await startPlane(s3Environment(s3))
  }, 120_000)
  afterAll(async () => {
    await plane?.dispose()
    await s3?.stop()
  })

  it("are 410 content_lost", async () => {
    const tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
    const own = within(plane, tenant)
    const id = await own.publish()
    const client = new S3Client({
      endpoint: s3.endpoint,
      region: s3.region,
      forcePathStyle: true,
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    })
    await client.send(new DeleteObjectCommand({ Bucket: s3.bucket, Key: `artifacts/${tenant.project}/${id}` }))
    client.destroy()
    expect(await own.content(id)).toMatchObject(lost)
  })
})
