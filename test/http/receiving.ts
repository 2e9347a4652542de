import { createHash } from "node:crypto"
import type { AddressInfo, Socket } from "node:net"
import { connect } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { answerEarly, bodyPending } from "../../src/http/upload/EarlyAnswer.ts"
import { receiveMultipart } from "../../src/http/upload/Receiver.ts"
import { makeServer } from "../../src/http/Server.ts"

interface Outcome {
  readonly fields: Map<string, string>
  file: { type: string | undefined; size: number; sha256: string } | undefined
  error: { readonly _tag?: string; readonly message?: string } | undefined
  /** How many pieces of the file the sink was given. */
  writes: number
  /** Those of the file's chunks. */
  readonly buffers: Array<ArrayBuffer>
}

/** A server that does nothing but receive, and answers 200 or an early 400 with the refusal's tag. */
export const withReceiver = async <A>(
  use: (port: number, outcomes: Array<Outcome>) => Promise<A>,
  options: { readonly idleSeconds?: number; readonly slowSinkMillis?: number; readonly refuse?: boolean } = {},
): Promise<A> => {
  const outcomes: Array<Outcome> = []
  const server = makeServer()
  server.on("request", (req, res) => {
    const outcome: Outcome = { fields: new Map(), file: undefined, error: undefined, writes: 0, buffers: [] }
    const hash = createHash("sha256")
    let file = { type: undefined as string | undefined, size: 0 }
    let seen = false
    const answer = (status: number, body: string) => {
      const headers = { "content-type": "application/json" }
      if (bodyPending(req)) void answerEarly(req, res, { status, headers, body })
      else res.writeHead(status, { ...headers, "content-length": body.length }).end(body)
    }
    if (options.refuse) return answer(403, JSON.stringify({ refused: true }))
    receiveMultipart(req, res, {
      signal: new AbortController().signal,
      idleSeconds: options.idleSeconds ?? 5,
      onField: (name, value) => void outcome.fields.set(name, Buffer.from(value).toString("utf8")),
      onFile: async ({ contentType }) => {
        seen = true
        file = { type: contentType, size: 0 }
        return {
          write: (chunk) => {
            file.size += chunk.length
            outcome.writes++
            // Smaller ones may be views of a pool's buffer.
            if (chunk.length >= 8192) outcome.buffers.push(chunk.buffer as ArrayBuffer)
            if (options.slowSinkMillis === undefined) return void hash.update(chunk)
            // Whoever waits may look at the chunk to the last.
            return delay(options.slowSinkMillis).then(() => void hash.update(chunk))
          },
        }
      },
    }).then(
      () => {
        if (seen) outcome.file = { ...file, sha256: hash.digest("hex") }
        outcomes.push(outcome)
        answer(200, JSON.stringify({ ok: true }))
      },
      (error) => {
        outcome.error = error
        outcomes.push(outcome)
        answer(400, JSON.stringify({ tag: error._tag }))
      },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    return await use((server.address() as AddressInfo).port, outcomes)
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}

/** Sends bytes as they are and returns everything that came back until the connection closed or `until` was seen. */
export const raw = (
  port: number,
  send: (socket: Socket) => void,
  until: RegExp = /\r\n\r\n\{.*\}$/s,
): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1")
    let text = ""
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`no answer in time; so far: ${JSON.stringify(text)}`))
    }, 8000)
    const done = () => {
      clearTimeout(timer)
      socket.destroy()
      resolve(text)
    }
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1")
      if (until.test(text)) done()
    })
    socket.on("close", done)
    socket.on("error", () => undefined)
    socket.on("connect", () => send(socket))
  })

export const head = (length: number | "chunked", boundary = "b", extra = "") =>
  `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=${boundary}\r\n${
    length === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`
  }\r\n${extra}\r\n`

export const post = (port: number, body: string | Buffer, extra = "") => {
  const bytes = Buffer.from(body as string, "latin1")
  return raw(port, (socket) => {
    socket.write(head(bytes.length, "b", extra))
    socket.write(bytes)
  })
}

export const part = (name: string, value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n${headers}\r\n${value}\r\n`
export const filePart = (value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n${headers}\r\n${value}\r\n`
export const end = "--b--\r\n"
