import { once } from "node:events"
import { connect } from "node:net"
import { resolve } from "node:path"
import { expect, it } from "vitest"
import { freePort } from "../support/ports.ts"
import { sleep, spawnRecorded, waitForLine } from "../support/processes.ts"

const root = resolve(import.meta.dirname, "../..")

/** The node's HTTP server in a process of its own; each request is answered 204. */
const program = `
const { makeServer } = await import("./src/http/Server.ts")
const server = makeServer()
server.on("request", (_, res) => res.writeHead(204).end())
server.on("connection", () => console.log("connected"))
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listening"))
`

it("a pause of the process is not taken for a head that is late", { timeout: 60_000 }, async () => {
  const port = await freePort()
  const server = await spawnRecorded(process.execPath, ["--input-type=module", "-e", program], {
    cwd: root,
    env: { PATH: process.env["PATH"] ?? "", PORT: String(port) },
  })
  try {
    await waitForLine(server, "listening", 30_000)
    const socket = connect(port, "127.0.0.1")
    // Closed with bytes that nobody read.
    socket.on("error", () => {})
    await once(socket, "connect")
    await waitForLine(server, "connected", 10_000)
    server.child.kill("SIGSTOP")
    socket.write("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    await sleep(12_000)
    server.child.kill("SIGCONT")
    const [answer] = (await once(socket, "data")) as [Buffer]
    expect(String(answer).split("\r\n")[0]).toMatch(/ (204 No Content|503 Service Unavailable)$/)
    socket.destroy()
  } finally {
    await server.end("SIGKILL")
  }
})
