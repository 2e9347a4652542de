import type { Tenant } from "../faults/plane.ts"
import type { RequestSpec } from "./jobs.ts"

/** As long as those that Node's `fetch` makes: a boundary is looked for in every byte, a short one with more work. */
const boundary = "----formdata-undici-086521773481"
const crlf = (...lines: ReadonlyArray<string>) => lines.join("\r\n")

const multipart = (bytes: number) => ({
  prefix: crlf(
    `--${boundary}`,
    'Content-Disposition: form-data; name="name"',
    "",
    "report.bin",
    `--${boundary}`,
    'Content-Disposition: form-data; name="file"; filename="report.bin"',
    "Content-Type: application/octet-stream",
    "",
    "",
  ),
  bytes,
  suffix: `\r\n--${boundary}--\r\n`,
})

export const publishing = (tenant: Tenant, bytes: number): RequestSpec => ({
  head: crlf(
    `POST /v1/projects/${tenant.project}/artifacts HTTP/1.1`,
    "Host: bench",
    `Authorization: Bearer ${tenant.key}`,
    `X-Mobius-Lease-Token: ${tenant.token}`,
    `Content-Type: multipart/form-data; boundary=${boundary}`,
  ),
  body: multipart(bytes),
  status: 201,
})

const ofProject = (
  method: string,
  path: string,
  tenant: Tenant,
  status: number,
  headers: ReadonlyArray<string> = [],
) => ({
  head: crlf(
    `${method} /v1/projects/${tenant.project}${path} HTTP/1.1`,
    "Host: bench",
    `Authorization: Bearer ${tenant.key}`,
    ...headers,
  ),
  status,
})

const call = (method: string, path: string, tenant: Tenant, status: number, headers: ReadonlyArray<string> = []) =>
  ofProject(method, `/artifacts${path}`, tenant, status, headers)

export const reading = (tenant: Tenant, id: string, bytes: number): RequestSpec => ({
  ...call("GET", `/${id}/content`, tenant, 200),
  answerBytes: bytes,
})

export const readingRange = (tenant: Tenant, id: string, from: number, bytes: number): RequestSpec => ({
  ...call("GET", `/${id}/content`, tenant, 206, [`Range: bytes=${from}-${from + bytes - 1}`]),
  answerBytes: bytes,
})

export const describing = (tenant: Tenant, id: string): RequestSpec => call("GET", `/${id}`, tenant, 200)

export const listing = (tenant: Tenant, query: Readonly<Record<string, string>>): RequestSpec =>
  call("GET", `?${new URLSearchParams(query).toString()}`, tenant, 200)

/** Its answer does not end. */
export const streamingEvents = (tenant: Tenant): RequestSpec =>
  ofProject("GET", "/events", tenant, 200, ["Accept: text/event-stream"])

export const quotaOf = (tenant: Tenant): RequestSpec => call("GET", "/quota", tenant, 200)

export const beating = (tenant: Tenant): RequestSpec => ({
  ...ofProject("POST", `/claims/${tenant.jobId}/heartbeat`, tenant, 200, [`X-Mobius-Lease-Token: ${tenant.token}`]),
  body: { prefix: "", bytes: 0, suffix: "" },
})

export const signing = (tenant: Tenant, id: string): RequestSpec => ({
  ...call("POST", `/${id}/signed-url?ttl_seconds=60`, tenant, 200),
  body: { prefix: "", bytes: 0, suffix: "" },
})

export const deleting = (tenant: Tenant, id: string): RequestSpec => call("DELETE", `/${id}`, tenant, 204)

/** To a server that takes the payload as the whole body. */
export const putting = (path: string, bytes: number): RequestSpec => ({
  head: crlf(`PUT ${path} HTTP/1.1`, "Host: bench", "Content-Type: application/octet-stream"),
  body: { prefix: "", bytes, suffix: "" },
  status: 201,
})

export const getting = (path: string, bytes: number): RequestSpec => ({
  head: crlf(`GET ${path} HTTP/1.1`, "Host: bench"),
  status: 200,
  answerBytes: bytes,
})

export const gettingRange = (path: string, from: number, bytes: number): RequestSpec => ({
  head: crlf(`GET ${path} HTTP/1.1`, "Host: bench", `Range: bytes=${from}-${from + bytes - 1}`),
  status: 206,
  answerBytes: bytes,
})

/** The tus protocol's creation with upload: one request, as ours is one. */
export const tusCreating = (bytes: number): RequestSpec => ({
  head: crlf(
    "POST /files HTTP/1.1",
    "Host: bench",
    "Tus-Resumable: 1.0.0",
    `Upload-Length: ${bytes}`,
    "Content-Type: application/offset+octet-stream",
  ),
  body: { prefix: "", bytes, suffix: "" },
  status: 201,
})

export const formPosting = (path: string, bytes: number): RequestSpec => ({
  head: crlf(`POST ${path} HTTP/1.1`, "Host: bench", `Content-Type: multipart/form-data; boundary=${boundary}`),
  body: multipart(bytes),
  status: 201,
})
