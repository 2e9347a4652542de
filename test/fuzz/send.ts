import { connect } from "node:net"
import type { Random } from "../faults/random.ts"

/** How a request ended. `status` is that of the first final answer; undefined: the node closed without one. */
export interface Ending {
  readonly status: number | undefined
  readonly body: string
  /** The connection was open, and no answer came. */
  readonly hung: boolean
}

/** The node drops heads that are not whole after 10 s, and bodies after UPLOAD_IDLE_SECONDS. */
const longestMillis = 30_000

/** `bodiless`: the request was a HEAD, whose answer has the length of a body and no body. */
const answerIn = (bytes: Buffer, bodiless: boolean): { readonly status: number; readonly body: string } | undefined => {
  let from = 0
  for (;;) {
    const end = bytes.indexOf("\r\n\r\n", from)
    if (end === -1) return undefined
    const head = bytes.subarray(from, end).toString("latin1")
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1])
    from = end + 4
    if (status < 200) continue
    if (bodiless) return { status, body: "" }
    const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1]
    const body = bytes.subarray(from)
    if (length !== undefined && body.length < Number(length)) return undefined
    return { status, body: body.subarray(0, length === undefined ? body.length : Number(length)).toString("utf8") }
  }
}

/** Sends the bytes, cut anywhere, and waits for the first whole answer or the end of the connection. */
export const sendBytes = (port: number, bytes: Buffer, random: Random): Promise<Ending> =>
  new Promise((resolve) => {
    const cuts = random.below(3) === 0 ? random.between(2, 6) : 1
    const places = Array.from({ length: cuts - 1 }, () => random.below(bytes.length + 1)).toSorted((a, b) => a - b)
    const bodiless = bytes.subarray(0, 5).toString("latin1") === "HEAD "
    const socket = connect(port, "127.0.0.1")
    let received: Buffer = Buffer.alloc(0)
    const finish = (hung: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      const answer = answerIn(received, bodiless)
      resolve({ status: answer?.status, body: answer?.body ?? "", hung: hung && answer === undefined })
    }
    const timer = setTimeout(() => finish(true), longestMillis)
    socket.on("error", () => {})
    socket.on("close", () => finish(false))
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      if (answerIn(received, bodiless) !== undefined) finish(false)
    })
    socket.on("connect", () => {
      let from = 0
      for (const to of [...places, bytes.length]) {
        if (to > from) socket.write(bytes.subarray(from, to))
        from = to
      }
    })
  })
