import { createServer } from "node:net"

/** Ports this process has given out: two servers starting at once never get the same one. */
const given = new Set<number>()

const ask = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })

/** A loopback TCP port that nobody listened on a moment ago. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = await ask()
    if (given.has(port)) continue
    given.add(port)
    return port
  }
}
