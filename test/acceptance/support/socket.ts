import * as Net from "node:net"
import { target } from "../target.ts"
import type { Answer, Wire } from "./wire.ts"

/** The raw bytes of one response, as far as they came, as an answer; undefined while it is incomplete. */
const parse = (bytes: Buffer, closed: boolean): Answer | undefined => {
  const end = bytes.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  const [statusLine = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n")
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(":")
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
  }
  const rest = bytes.subarray(end + 4)
  const length = Number(headers["content-length"] ?? (/^1|^204/.test(statusLine.slice(9)) ? 0 : Number.NaN))
  if (Number.isNaN(length) ? !closed && !rest.includes("0\r\n\r\n") : rest.byteLength < length) return undefined
  const body = Number.isNaN(length) ? rest : rest.subarray(0, length)
  return {
    status: Number(statusLine.split(" ")[1]),
    headers,
    bytes: body,
    get json(): Wire {
      return JSON.parse(body.toString("utf8"))
    },
  }
}

/** A TCP connection to the node on which the test writes what it likes. */
export class RawSocket {
  readonly #socket: Net.Socket
  #received: Buffer = Buffer.alloc(0)
  #closed = false

  private constructor(socket: Net.Socket) {
    this.#socket = socket
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
    })
    socket.on("close", () => {
      this.#closed = true
    })
    socket.on("error", () => {
      this.#closed = true
    })
  }

  static open(): Promise<RawSocket> {
    const { hostname, port } = new URL(target.baseUrl)
    return new Promise((resolve, reject) => {
      const socket = Net.connect(Number(port || 80), hostname.replace(/^\[|\]$/g, ""))
      socket.once("error", reject)
      socket.once("connect", () => {
        socket.off("error", reject)
        resolve(new RawSocket(socket))
      })
    })
  }

  write(bytes: string | Uint8Array): void {
    if (!this.#closed) this.#socket.write(bytes)
  }

  /** The first answer not yet taken (a `100 Continue` counts as one); rejects after `millis` or at the end. */
  async answer(millis = 15_000): Promise<Answer> {
    const deadline = Date.now() + millis
    for (;;) {
      const answer = parse(this.#received, this.#closed)
      if (answer !== undefined) {
        const head = this.#received.indexOf("\r\n\r\n") + 4
        this.#received = this.#received.subarray(head + answer.bytes.byteLength)
        return answer
      }
      if (this.#closed) throw new Error(`closed after ${JSON.stringify(this.#received.toString("latin1"))}`)
      if (Date.now() > deadline) throw new Error(`no answer within ${millis} ms`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** Request line and headers of a POST, each header as given, with Host. */
export const head = (path: string, headers: Record<string, string>): string =>
  [
    `POST ${path} HTTP/1.1`,
    `Host: ${new URL(target.baseUrl).host}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "",
    "",
  ].join("\r\n")
