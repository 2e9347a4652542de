import { connect, type Socket } from "node:net"
import type { RequestSpec } from "../jobs.ts"

const MiB = 1024 * 1024
/** Payloads beyond this are sent from one block again and again, so that no request is held whole. */
const wholeUpTo = 2 * MiB
const payload = Buffer.alloc(MiB)
for (let at = 0; at < payload.length; at++) payload[at] = (at * 2_654_435_761) >>> 13

/** A request as bytes: either all of them, or what stands around a payload of `fill` bytes. */
export interface Prepared {
  readonly spec: RequestSpec
  readonly before: Buffer
  readonly fill: number
  readonly after: Buffer
}

export const prepare = (spec: RequestSpec): Prepared => {
  const { body } = spec
  if (body === undefined) return { spec, before: Buffer.from(`${spec.head}\r\n\r\n`), fill: 0, after: Buffer.alloc(0) }
  const prefix = Buffer.from(body.prefix)
  const suffix = Buffer.from(body.suffix)
  const length = prefix.length + body.bytes + suffix.length
  const before = Buffer.concat([Buffer.from(`${spec.head}\r\nContent-Length: ${length}\r\n\r\n`), prefix])
  if (body.bytes > wholeUpTo) return { spec, before, fill: body.bytes, after: suffix }
  const fill = Array.from({ length: Math.ceil(body.bytes / MiB) }, (_, index) =>
    payload.subarray(0, Math.min(MiB, body.bytes - index * MiB)),
  )
  return { spec, before: Buffer.concat([before, ...fill, suffix]), fill: 0, after: Buffer.alloc(0) }
}

export interface Answer {
  readonly status: number
  readonly bytes: number
  /** Of small answers only. */
  readonly text: string
}

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

interface Arriving {
  readonly status: number
  readonly chunked: boolean
  left: number
  bytes: number
  text: string
}

const keptText = 64 * 1024

/**
 * One keep-alive connection with one request at a time. Written on the socket itself: a client that costs as much as
 * the server would, on a small machine, measure the client.
 */
export class Connection {
  readonly #socket: Socket
  #waiting: Waiting | undefined
  #head = ""
  #answer: Arriving | undefined
  broken = false

  private constructor(port: number, ready: () => void, failed: (error: Error) => void) {
    this.#socket = connect({
      host: "127.0.0.1",
      port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(256 * 1024),
        callback: (count, buffer) => {
          this.#take(Buffer.from(buffer.buffer, buffer.byteOffset, count))
          return true
        },
      },
    })
    this.#socket.once("connect", ready)
    this.#socket.on("error", (error) => {
      failed(error)
      this.#break(error)
    })
    this.#socket.on("close", () => this.#break(new Error("the connection was closed without an answer")))
  }

  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection: Connection = new Connection(port, () => resolve(connection), reject)
    })
  }

  exchange(request: Prepared): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#socket.write(request.before)
      if (request.fill > 0) this.#fill(request.fill, request.after)
    })
  }

  close(): void {
    this.#waiting = undefined
    this.#socket.destroy()
  }

  #fill(left: number, after: Buffer): void {
    let rest = left
    while (rest > 0) {
      if (this.#waiting === undefined) return
      const block = rest >= MiB ? payload : payload.subarray(0, rest)
      rest -= block.length
      if (!this.#socket.write(block)) {
        this.#socket.once("drain", () => this.#fill(rest, after))
        return
      }
    }
    this.#socket.write(after)
  }

  #break(error: Error): void {
    this.broken = true
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(error)
  }

  #take(data: Buffer): void {
    if (this.#answer !== undefined) return this.#body(this.#answer, data)
    this.#head += data.toString("latin1")
    const end = this.#head.indexOf("\r\n\r\n")
    if (end === -1) return
    const bodyBegan = data.length - (this.#head.length - end - 4)
    const head = this.#head.slice(0, end)
    this.#head = ""
    const status = Number(head.slice(9, 12))
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
    const chunked = length === undefined && /\r\ntransfer-encoding: *chunked/i.test(head)
    const left = chunked ? Number.POSITIVE_INFINITY : Number(length ?? 0)
    this.#answer = { status, left, chunked, bytes: 0, text: "" }
    this.#body(this.#answer, data.subarray(bodyBegan))
  }

  #body(answer: Arriving, data: Buffer): void {
    answer.bytes += data.length
    answer.left -= data.length
    if (answer.bytes < keptText) answer.text += data.toString("latin1")
    const done = answer.chunked ? answer.text.endsWith("0\r\n\r\n") : answer.left <= 0
    if (!done) return
    const { bytes, status, text } = answer
    this.#answer = undefined
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting === undefined || answer.left < 0) this.#break(new Error("more bytes came than were promised"))
    else waiting.resolve({ status, bytes, text })
  }
}
