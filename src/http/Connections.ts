import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { Server as NetServer, type Socket } from "node:net"
import { connectionRefused } from "../telemetry/Transfers.ts"

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

const isIdle = (socket: Socket, { open, seen }: Use) => open === 0 && socket.bytesRead === seen && !socket.destroyed

/** Of the connections that a server may have, how many it keeps free by closing idle ones. */
const spareOf = (most: number) => Math.max(1, Math.min(32, most >> 4))

/**
 * Watches a server's connections. Node's own `close` is not enough: it drops answers that were ended and are not sent
 * yet, keeps silent connections, and leaves those that fall idle later open for their keep-alive time.
 * `most`: no more are open at once; absent: any number. A few of them are kept free: those that were idle for longest are
 * closed, so that silent clients keep nobody out. While all are busy, those beyond `most` are closed as they come.
 */
export const watchConnections = (server: Server, most?: number): Connections => {
  /** The one that was idle for longest comes first, of those that are idle. */
  const uses = new Map<Socket, Use>()
  if (most !== undefined) {
    server.maxConnections = most
    server.on("drop", connectionRefused)
  }
  const keepSomeFree = (coming: 0 | 1) => {
    if (most === undefined || uses.size + coming <= most - spareOf(most)) return
    for (const [socket, use] of uses) if (isIdle(socket, use)) return void socket.destroy()
  }
  const unanswered = new Set<ServerResponse>()
  let last = false

  server.on("connection", (socket: Socket) => {
    keepSomeFree(1)
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
      if (uses.delete(socket)) uses.set(socket, use)
      keepSomeFree(0)
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
        for (const [socket, use] of uses)
          if (late >= graceMillis || isIdle(socket, use) || (use.open === 0 && late >= headMillis)) socket.destroy()
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
