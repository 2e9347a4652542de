import type { IncomingMessage, ServerResponse } from "node:http"

const drainBytes = 64 * 1024 * 1024
const drainMillis = 10_000

const awaitsContinue = new WeakSet<IncomingMessage>()

/** Remembers that the client waits for `100 Continue` before it sends its body. */
export const markAwaitsContinue = (req: IncomingMessage): void => void awaitsContinue.add(req)

/** Lets the body come, once, if the client waits to be let. */
export const continueIfAsked = (req: IncomingMessage, res: ServerResponse): void => {
  if (awaitsContinue.delete(req)) res.writeContinue()
}

/** Whether the request has a body that was not read to its end. */
export const bodyPending = (req: IncomingMessage): boolean =>
  !req.complete && (req.headers["transfer-encoding"] !== undefined || Number(req.headers["content-length"] ?? 0) > 0)

/**
 * Answers before the body was read, so that the client can read the answer: all of it goes out at once, then at most
 * 64 MiB or 10 s of the rest are discarded (a close with bytes unread would reset the connection and take the answer
 * with it), then the connection ends. A client that waits for `100 Continue` sends nothing more, so nobody waits for it.
 */
export const answerEarly = (
  req: IncomingMessage,
  res: ServerResponse,
  answer: { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string },
): Promise<void> =>
  new Promise((resolve) => {
    const body = Buffer.from(answer.body)
    res.writeHead(answer.status, { ...answer.headers, "content-length": body.length, connection: "close" })
    if (awaitsContinue.has(req)) {
      res.end(body, () => resolve())
      res.once("close", resolve)
      return
    }
    let left = drainBytes
    const finish = () => {
      clearTimeout(timer)
      req.off("data", onData).off("end", finish).off("error", finish).off("close", finish)
      res.off("close", finish)
      if (!res.writableEnded) res.end(() => resolve())
      resolve()
    }
    const onData = (chunk: Buffer) => {
      left -= chunk.length
      if (left < 0) finish()
    }
    const timer = setTimeout(finish, drainMillis)
    req.on("data", onData).on("end", finish).on("error", finish).on("close", finish)
    res.on("close", finish)
    res.write(body)
    req.resume()
  })
