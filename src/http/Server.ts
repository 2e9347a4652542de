import { randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, type Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { expectRefusals, refused } from "../telemetry/Refused.ts"
import { observeRequest } from "../telemetry/Requests.ts"
import { observeUpload } from "../telemetry/Uploads.ts"
import { type ErrorCode, errorCodes } from "./ApiErrors.ts"
import { headMillis } from "./Connections.ts"
import { watchPauses } from "./Pauses.ts"
import { pacedMessages } from "./PacedMessage.ts"
import { matchOf } from "./Routes.ts"
import { answerEarly, bodyPending, markAwaitsContinue } from "./upload/EarlyAnswer.ts"

expectRefusals(errorCodes)

/** Where a POST is an upload. */
const uploadRoutes = new Set(["/v1/projects/:project/artifacts", "/v1/artifacts"])

const requestIdRule = /^[A-Za-z0-9._-]{1,128}$/

/** The body of a refusal, counted as one. */
const envelope = (code: ErrorCode, message: string) => {
  refused(code)
  return JSON.stringify({ error: { code, message } })
}

/** What every answer carries, streamed ones included: the request's id, and that its type is meant. And it is counted. */
const prepare = (req: IncomingMessage, res: ServerResponse): void => {
  // RFC 9112, section 3.2.2: a server takes the absolute form too.
  if (req.url?.startsWith("/") === false) req.url = req.url.replace(/^https?:\/\/[^/?]*\/?/i, "/")
  const given = req.headers["x-request-id"]
  res.setHeader("x-request-id", typeof given === "string" && requestIdRule.test(given) ? given : randomUUID())
  res.setHeader("x-content-type-options", "nosniff")
  // Answers tell of one tenant: keys, tokens and signed URLs among them. What may be kept says so itself.
  res.setHeader("cache-control", "no-store")
  const { template } = matchOf(req)
  observeRequest(template, req, res)
  if (req.method === "POST" && uploadRoutes.has(template)) observeUpload(req, res)
}

/** An answer that leaves its request's body unread ends the connection: Node would read and drop all of it, unpaced. */
class Answer extends ServerResponse {
  // Every head goes through here, the implicit ones too. The type of the rest is one overload of two.
  override writeHead(status: number, ...rest: ReadonlyArray<never>): this {
    if (bodyPending(this.req)) this.shouldKeepAlive = false
    return super.writeHead(status, ...rest)
  }
}

/** The status line, with what only this refusal says, and the body. */
const refusalOf = (code: string | undefined, stoodStill: boolean): readonly [string, string] => {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT" && stoodStill)
    return [
      "503 Service Unavailable\r\nRetry-After: 1",
      envelope("service_unavailable", "This node stood still for a while; send the request again."),
    ]
  const message =
    code === "HPE_HEADER_OVERFLOW" ? "The request's headers are too large." : "This is not a well-formed HTTP request."
  return ["400 Bad Request", envelope("bad_request", message)]
}

/**
 * Bytes that are not HTTP, headers beyond the limits, or late ones, which a pause of this process makes of any: one small
 * envelope, unless an answer has begun.
 */
const onClientError = (error: NodeJS.ErrnoException, socket: Duplex, stoodStill: boolean): void => {
  const begun = (socket as Duplex & { _httpMessage?: ServerResponse | null })._httpMessage?.headersSent === true
  if (!socket.writable || error.code === "ECONNRESET" || begun) return void socket.destroy()
  const [status, body] = refusalOf(error.code, stoodStill)
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `X-Request-Id: ${randomUUID()}\r\nConnection: close\r\n\r\n${body}`,
  )
}

/**
 * The node's HTTP server. No limit on a request's total time, for a large upload over a slow line is honest work;
 * progress is what is watched, where bodies are read.
 */
export const makeServer = (): Server => {
  const server = createServer({
    IncomingMessage: pacedMessages(),
    ServerResponse: Answer,
    requestTimeout: 0,
    headersTimeout: headMillis,
    // How often Node looks for heads that are late; by itself each 30 s.
    connectionsCheckingInterval: 1000,
    // Node's own answer would have no body: see RequestRules.ts.
    requireHostHeader: false,
    keepAliveTimeout: 65_000,
    // Probes notice a client that vanished while its event stream was silent.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
    maxHeaderSize: 16 * 1024,
    shouldUpgradeCallback: () => false,
  })
  server.on("request", prepare)
  server.on("checkContinue", (req: IncomingMessage, res: ServerResponse) => {
    markAwaitsContinue(req)
    server.emit("request", req, res)
  })
  server.on("checkExpectation", (req: IncomingMessage, res: ServerResponse) => {
    prepare(req, res)
    void answerEarly(req, res, {
      status: 417,
      headers: { "content-type": "application/json" },
      body: envelope("expectation_failed", "The only expectation met here is 100-continue."),
    })
  })
  const pauses = watchPauses()
  server.on("close", pauses.stop)
  server.on("clientError", (error: NodeJS.ErrnoException, socket) =>
    onClientError(error, socket, pauses.endedWithin(headMillis)),
  )
  return server
}
