import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { Server as NetServer, type Socket } from "node:net"

/** How long a connection may take to send the head of a request, in milliseconds; what takes longer is no request. */
export const headMillis = 10_000

/** A server's end, in two steps that lose no request. */
export interface Connections {
  /** From now on every answer says `Connection: close`; all requests are still served. Idempotent. */
  readonly sayLast: () => void
  /**
   * The listener closes and so does every connection without a request on it; one with a request in flight closes after
   * its answer, or after `graceMillis` without one. Resolves when none is left.
   */
  readonly close: (graceMillis: number) => Promise<void>
}

interface Use {
  /** Requests whose answers have not gone out whole. */
  open: number
  /** What the socket had received when it last fell idle, in bytes: more than that is the start of a request. */
  seen: number
}

/**
 * Watches a server's connections. Node's own `close` is not enough: it drops answers that were ended and are not sent
 * yet, keeps silent connections, and leaves those that fall idle later open for their keep-alive time.
 */
export const watchConnections = (server: Server): Connections => {
  const uses = new Map<Socket, Use>()
  const unanswered = new Set<ServerResponse>()
  let last = false

  server.on("connection", (socket: Socket) => {
    uses.set(socket, { open: 0, seen: 0 })
    socket.once("close", () => uses.delete(socket))
  })
  server.on("request", (req: IncomingMessage, res: ServerResponse) => {
    if (last) res.shouldKeepAlive = false
    const { socket } = req
    const use = uses.get(socket)
    if (use === undefined) return
    use.open++
    unanswered.add(res)
    res.once("close", () => {
      use.open--
      use.seen = socket.bytesRead
      unanswered.delete(res)
    })
  })

  const sayLast = () => {
    last = true
    for (const res of unanswered) if (!res.headersSent) res.shouldKeepAlive = false
  }

  const close = (graceMillis: number) =>
    new Promise<void>((resolve) => {
      sayLast()
      const began = performance.now()
      const closeIdle = () => {
        const late = performance.now() - began
        for (const [socket, { open, seen }] of uses)
          if (late >= graceMillis || (open === 0 && (socket.bytesRead === seen || late >= headMillis))) socket.destroy()
      }
      const timer = setInterval(closeIdle, 50)
      // Not the HTTP server's own method, which cuts answers off.
      NetServer.prototype.close.call(server, () => {
        clearInterval(timer)
        resolve()
      })
      closeIdle()
    })

  return { sayLast, close }
}
