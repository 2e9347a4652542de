import { createHash, randomBytes } from "node:crypto"
import { type IncomingMessage, request } from "node:http"
import type { Answer, Tenant } from "./plane.ts"

/** An upload whose pace the test sets. */
export interface SlowUpload {
  /** Sends bytes of the file; resolves when the connection took them. */
  send(bytes: Uint8Array): Promise<void>
  /** Sends the rest of the body. */
  finish(): void
  /** Breaks the connection. */
  vanish(): void
  /** Rejects when the connection ends without an answer. */
  readonly answer: Promise<Answer & { readonly headers: IncomingMessage["headers"] }>
}

const jsonOf = async (res: IncomingMessage) => {
  let text = ""
  for await (const part of res.setEncoding("utf8")) text += part
  return text === "" ? undefined : JSON.parse(text)
}

/** Begins an upload and sends no byte of its file yet. */
export const beginUpload = (
  baseUrl: string,
  tenant: Tenant,
  name: string,
  options: {
    readonly key?: string
    /** The file's size is stated, in `size_bytes`. */
    readonly size?: number
    /** The body's length is stated; otherwise it is chunked. */
    readonly contentLength?: number
    /** Breaks the connection when it says so. */
    readonly signal?: AbortSignal
  } = {},
): SlowUpload => {
  const boundary = `b${randomBytes(12).toString("hex")}`
  const req = request(`${baseUrl}/v1/projects/${tenant.project}/artifacts`, {
    method: "POST",
    agent: false,
    ...(options.signal !== undefined && { signal: options.signal }),
    headers: {
      authorization: `Bearer ${tenant.key}`,
      "x-mobius-lease-token": tenant.token,
      "content-type": `multipart/form-data; boundary=${boundary}`,
      ...(options.key !== undefined && { "idempotency-key": options.key }),
      ...(options.contentLength !== undefined && { "content-length": String(options.contentLength) }),
    },
  })
  const answer = new Promise<Awaited<SlowUpload["answer"]>>((resolve, reject) => {
    req.on("error", reject)
    req.on("response", (res) => {
      jsonOf(res).then((body) => resolve({ status: res.statusCode ?? 0, body, headers: res.headers }), reject)
    })
  })
  answer.catch(() => {})
  const write = (bytes: Uint8Array | string) =>
    new Promise<void>((resolve, reject) => req.write(bytes, (error) => (error ? reject(error) : resolve())))
  const size =
    options.size === undefined
      ? ""
      : `--${boundary}\r\ncontent-disposition: form-data; name="size_bytes"\r\n\r\n${options.size}\r\n`
  void write(
    `--${boundary}\r\ncontent-disposition: form-data; name="name"\r\n\r\n${name}\r\n` +
      size +
      `--${boundary}\r\ncontent-disposition: form-data; name="file"\r\n\r\n`,
  ).catch(() => {})
  return {
    send: write,
    finish: () => void req.end(`\r\n--${boundary}--\r\n`),
    vanish: () => void req.destroy(),
    answer,
  }
}

/** A download of which nothing is read before `rest` is called; it resolves with the digest of all that came. */
export const beginDownload = (
  baseUrl: string,
  tenant: Tenant,
  id: string,
): Promise<{ readonly status: number; rest(): Promise<{ readonly bytes: number; readonly sha256: string }> }> =>
  new Promise((resolve, reject) => {
    const req = request(`${baseUrl}/v1/projects/${tenant.project}/artifacts/${id}/content`, {
      agent: false,
      headers: { authorization: `Bearer ${tenant.key}` },
    })
    req.on("error", reject)
    req.on("response", (res) =>
      resolve({
        status: res.statusCode ?? 0,
        rest: async () => {
          const hash = createHash("sha256")
          let bytes = 0
          for await (const part of res) {
            bytes += part.length
            hash.update(part)
          }
          return { bytes, sha256: hash.digest("hex") }
        },
      }),
    )
    req.end()
  })
