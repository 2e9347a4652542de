import { once } from "node:events"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

interface Upload {
  readonly key: string
  readonly id: string
  readonly initiated: string
}

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
const field = (xml: string, name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? ""

const pageOf = (bucket: string, uploads: ReadonlyArray<Upload>) =>
  `<?xml version="1.0" encoding="UTF-8"?><ListMultipartUploadsResult><Bucket>${bucket}</Bucket><IsTruncated>false</IsTruncated>${uploads
    .map(
      ({ id, initiated, key }) =>
        `<Upload><Key>${escaped(key)}</Key><UploadId>${id}</UploadId><Initiated>${initiated}</Initiated></Upload>`,
    )
    .join("")}</ListMultipartUploadsResult>`

/**
 * In front of an S3 stand-in that cannot list unfinished multipart uploads: passes every request on, remembers which
 * uploads were begun and which ended, and answers ListMultipartUploads itself, in one page.
 */
export const listingUploads = async (inner: number) => {
  const uploads = new Map<string, Upload>()

  const forward = (req: IncomingMessage, res: ServerResponse, url: URL) => {
    const outgoing = request(
      { host: "127.0.0.1", port: inner, method: req.method, path: req.url, headers: req.headers },
      (answer) => {
        const ok = (answer.statusCode ?? 500) < 300
        const ended = url.searchParams.get("uploadId")
        if (ok && ended !== null && (req.method === "DELETE" || req.method === "POST")) uploads.delete(ended)
        res.writeHead(answer.statusCode ?? 500, answer.headers)
        if (ok && req.method === "POST" && url.searchParams.has("uploads")) {
          let xml = ""
          answer.setEncoding("utf8").on("data", (chunk: string) => (xml += chunk))
          answer.on("end", () => {
            const [id, key] = [field(xml, "UploadId"), decodeURIComponent(url.pathname).split("/").slice(2).join("/")]
            uploads.set(id, { id, key, initiated: new Date().toISOString() })
          })
        }
        answer.pipe(res)
      },
    )
    outgoing.on("error", () => res.destroy())
    res.on("close", () => void outgoing.destroy())
    req.pipe(outgoing)
  }

  const server = createServer((req, res) => {
    const url = new URL(req.url ?? "/", "http://s3")
    if (req.method !== "GET" || !url.searchParams.has("uploads")) return forward(req, res, url)
    const [, bucket = ""] = url.pathname.split("/")
    const prefix = url.searchParams.get("prefix") ?? ""
    const page = [...uploads.values()].filter(({ key }) => key.startsWith(prefix))
    res.writeHead(200, { "content-type": "application/xml" }).end(pageOf(bucket, page))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.closeAllConnections()
      const closed = once(server, "close")
      server.close()
      await closed
    },
  }
}
