import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: Record<string, unknown> }>
}

/** The least that an OTLP/HTTP receiver does: takes JSON at /v1/traces and keeps it. */
export const startOtlpReceiver = async () => {
  const bodies: Array<string> = []
  const server = createServer((req, res) => {
    const chunks: Array<Buffer> = []
    req.on("data", (chunk: Buffer) => chunks.push(chunk))
    req.on("end", () => {
      if (req.url === "/v1/traces") bodies.push(Buffer.concat(chunks).toString())
      res.writeHead(req.url === "/v1/traces" ? 200 : 404, { "content-type": "application/json" }).end("{}")
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** All that came, as text. */
    text: () => bodies.join("\n"),
    spans: (): ReadonlyArray<Span> =>
      bodies.flatMap((body) =>
        JSON.parse(body).resourceSpans.flatMap((resource: any) =>
          resource.scopeSpans.flatMap((scope: any) => scope.spans),
        ),
      ),
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
