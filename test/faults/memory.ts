import { createHash, randomBytes } from "node:crypto"
import { request } from "node:http"
import { s3Environment, type S3Server, startS3StandIn } from "../support/s3.ts"
import { sleep } from "../support/processes.ts"
import { residentBytes } from "../support/procfs.ts"
import { makeTenant, publish, startPlane, type Tenant } from "./plane.ts"

const MiB = 1024 * 1024

/** The highest resident memory of the process while something runs, sampled every 20 ms. */
const peakDuring = async (pid: number, work: Promise<unknown>) => {
  let peak = 0
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(pid))
  }, 20)
  await work
  clearInterval(timer)
  return peak
}

/** A chunked upload of `total` bytes, never held whole; resolves with the artifact's id and the digest sent. */
const uploadLarge = (baseUrl: string, tenant: Tenant, total: number) =>
  new Promise<{ id: string; sha256: string }>((resolve, reject) => {
    const boundary = "large"
    const hash = createHash("sha256")
    const chunk = randomBytes(MiB)
    const req = request(`${baseUrl}/v1/projects/${tenant.project}/artifacts`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${tenant.key}`,
        "x-mobius-lease-token": tenant.token,
        "content-type": `multipart/form-data; boundary=${boundary}`,
      },
    })
    req.on("error", reject)
    req.on("response", (res) => {
      let text = ""
      res.setEncoding("utf8")
      res.on("data", (part) => {
        text += part
      })
      res.on("end", () =>
        res.statusCode === 201
          ? resolve({ id: JSON.parse(text).id, sha256: hash.digest("hex") })
          : reject(new Error(`${res.statusCode} ${text}`)),
      )
    })
    req.write(
      `--${boundary}\r\ncontent-disposition: form-data; name="name"\r\n\r\nlarge.bin\r\n--${boundary}\r\ncontent-disposition: form-data; name="file"\r\n\r\n`,
    )
    let sent = 0
    const more = () => {
      while (sent < total) {
        sent += chunk.length
        hash.update(chunk)
        if (!req.write(chunk)) {
          req.once("drain", more)
          return
        }
      }
      req.end(`\r\n--${boundary}--\r\n`)
    }
    more()
  })

const download = async (baseUrl: string, tenant: Tenant, id: string) => {
  const response = await fetch(`${baseUrl}/v1/projects/${tenant.project}/artifacts/${id}/content`, {
    headers: { authorization: `Bearer ${tenant.key}` },
  })
  const hash = createHash("sha256")
  for await (const part of response.body ?? []) hash.update(part)
  return hash.digest("hex")
}

const store = process.argv[2] ?? "files"
const total = Number(process.argv[3] ?? 2048) * MiB
/** Of each of 64 uploads at once; 0 leaves them out. */
const each = Number(process.argv[4] ?? 128) * MiB
let s3: S3Server | undefined
let facts: Record<string, string> = {}
if (store === "s3" || store === "rgw") {
  s3 = store === "s3" ? await startS3StandIn() : await (await import("../support/rgw.ts")).startRgw()
  facts = s3Environment(s3)
}
const plane = await startPlane(facts)
try {
  const { baseUrl, pid } = plane.node()
  const tenant = await makeTenant(baseUrl, plane.adminKey, { quotaBytes: 2 * total + 65 * each + 1024 * MiB })
  await publish(baseUrl, tenant, { name: "warm", bytes: randomBytes(MiB) })
  await sleep(1000)
  const idle = residentBytes(pid)
  const rise = async (work: Promise<unknown>) => Math.round(((await peakDuring(pid, work)) - idle) / MiB)
  let made: { id: string; sha256: string } | undefined
  let began = Date.now()
  const upload = await rise(
    uploadLarge(baseUrl, tenant, total).then((result) => {
      made = result
    }),
  )
  const uploadSeconds = (Date.now() - began) / 1000
  began = Date.now()
  let got = ""
  const read = await rise(
    download(baseUrl, tenant, made?.id ?? "").then((digest) => {
      got = digest
    }),
  )
  const readSeconds = (Date.now() - began) / 1000
  const file = randomBytes(MiB)
  const parallel = await rise(
    Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        publish(baseUrl, tenant, { name: `p${index}`, bytes: file, chunked: true }),
      ),
    ).then((answers) => {
      const failed = answers.filter(({ status }) => status !== 201)
      if (failed.length > 0)
        console.log(
          `${failed.length} of 200 failed, the first with ${failed[0]?.status} ${JSON.stringify(failed[0]?.body)}`,
        )
    }),
  )
  const large =
    each === 0
      ? undefined
      : await rise(Promise.all(Array.from({ length: 64 }, () => uploadLarge(baseUrl, tenant, each))))
  console.log(
    JSON.stringify({
      store,
      idleMiB: Math.round(idle / MiB),
      sizeMiB: total / MiB,
      upload,
      uploadSeconds,
      read,
      readSeconds,
      parallel,
      eachMiB: each / MiB,
      large,
      digestMatches: got === made?.sha256,
    }),
  )
} finally {
  await plane.dispose()
  await s3?.stop()
}
process.exit(0)
