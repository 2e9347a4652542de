import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

export interface Proxy {
  readonly port: number
  /** Connections stay open, new ones are accepted, and no byte goes through. */
  stall(): void
  /** Breaks every connection and takes no new one. */
  refuse(): Promise<void>
  /** From now on new connections lead to this port; those that are open stay where they are. */
  redirect(port: number): void
  /** Forwards again, also what came while it was stalled. */
  resume(): Promise<void>
  dispose(): Promise<void>
}

/** A loopback TCP proxy in front of a server that cannot be paused itself. */
export const startProxy = async (target: { readonly host: string; readonly port: number }): Promise<Proxy> => {
  const sockets = new Set<Socket>()
  let waiting: Array<() => void> = []
  let stalled = false
  let targetPort = target.port
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
    if (stalled) socket.pause()
  }
  const forward = (inside: Socket) => {
    if (inside.destroyed) return
    const outside = connect(targetPort, target.host)
    keep(outside)
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      from.on("data", (chunk) => void to.write(chunk))
      from.on("close", () => to.destroy())
    }
    // "data" listeners start the flow.
    if (stalled) for (const socket of [inside, outside]) socket.pause()
  }
  const server = createServer((inside) => {
    keep(inside)
    if (stalled) waiting.push(() => forward(inside))
    else forward(inside)
  })
  const listen = async (port: number) => {
    server.listen(port, "127.0.0.1")
    await once(server, "listening")
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  const refuse = async () => {
    for (const socket of sockets) socket.destroy()
    if (!server.listening) return
    const closed = once(server, "close")
    server.close()
    await closed
  }
  return {
    port,
    stall: () => {
      stalled = true
      for (const socket of sockets) socket.pause()
    },
    refuse,
    redirect: (to) => {
      targetPort = to
    },
    resume: async () => {
      stalled = false
      if (!server.listening) await listen(port)
      for (const begin of waiting) begin()
      waiting = []
      for (const socket of sockets) socket.resume()
    },
    dispose: refuse,
  }
}
