import { randomInt } from "node:crypto"
import { createServer } from "node:net"

/** Ports this process has given out: two servers starting at once never get the same one. */
const given = new Set<number>()

/**
 * Below the range from which systems take the ports of outgoing connections: a server that is started again finds its
 * port free, and a client that knocks while it is away never connects to itself.
 */
const lowest = 10_000
const highest = 32_767

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })

/** A loopback TCP port that nobody listened on a moment ago. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = randomInt(lowest, highest + 1)
    if (given.has(port)) continue
    given.add(port)
    if (await isFree(port)) return port
  }
}
