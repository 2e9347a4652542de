import { once } from "node:events"
import { createServer, type Server, type ServerResponse } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { describe, expect, it } from "vitest"
import { type Connections, watchConnections } from "../../src/http/Connections.ts"
import { sleep } from "../support/processes.ts"

interface Scene {
  readonly server: Server
  readonly connections: Connections
  readonly open: () => Promise<Socket>
}

const MiB = 1024 * 1024
const get = "GET / HTTP/1.1\r\nHost: here\r\n\r\n"

const withServer = async (answer: (res: ServerResponse) => void, work: (scene: Scene) => Promise<void>) => {
  const server = createServer({ keepAliveTimeout: 65_000 })
  const connections = watchConnections(server)
  server.on("request", (_, res) => answer(res))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  const sockets: Array<Socket> = []
  const open = async () => {
    const socket = connect(port, "127.0.0.1")
    socket.on("error", () => {})
    sockets.push(socket)
    await once(socket, "connect")
    return socket
  }
  try {
    await work({ server, connections, open })
  } finally {
    for (const socket of sockets) socket.destroy()
    await connections.close(0)
  }
}

const ended = (socket: Socket) => (socket.destroyed ? Promise.resolve() : once(socket, "close").then(() => {}))

const textOf = async (socket: Socket) => {
  let text = ""
  for await (const chunk of socket.setEncoding("latin1")) text += chunk
  return text
}

describe("the end of a server's connections", () => {
  it("sends whole an answer that was ended and is not sent yet", async () => {
    await withServer(
      (res) => void res.end(Buffer.alloc(64 * MiB, "x")),
      async ({ connections, open }) => {
        const socket = await open()
        socket.write(get)
        await sleep(200)
        const closed = connections.close(20_000)
        await sleep(300)
        const text = await textOf(socket)
        expect(text.length - text.indexOf("\r\n\r\n") - 4).toBe(64 * MiB)
        await closed
      },
    )
  })

  it("closes what is silent or idle at once, and waits for requests that have begun to arrive", async () => {
    let answered = 0
    await withServer(
      (res) => {
        answered++
        res.end("well")
      },
      async ({ connections, open }) => {
        const silent = (await open()).resume()
        const idle = (await open()).resume()
        idle.write(get)
        while (answered === 0) await sleep(5)
        const begun = await open()
        begun.write(get.slice(0, 20))
        await sleep(50)
        const closed = connections.close(20_000)
        await Promise.all([ended(silent), ended(idle)])
        begun.write(get.slice(20))
        const text = await textOf(begun)
        expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*Connection: close\r\n[^]*well$/)
        expect(answered).toBe(2)
        await closed
      },
    )
  })

  it("closes after its answer a connection whose answer began before the end was known", async () => {
    const begun: Array<ServerResponse> = []
    await withServer(
      (res) => {
        begun.push(res)
        res.writeHead(200, { "content-length": 8 })
        res.write("half")
      },
      async ({ connections, open }) => {
        const socket = await open()
        socket.write(get)
        while (begun.length === 0) await sleep(5)
        const closed = connections.close(20_000)
        await sleep(100)
        begun[0]?.end("done")
        expect(await textOf(socket)).toMatch(/halfdone$/)
        await closed
      },
    )
  })

  it("cuts off what has no answer after the grace", async () => {
    await withServer(
      () => {},
      async ({ connections, open }) => {
        const socket = await open()
        socket.write(get)
        await sleep(50)
        const began = performance.now()
        await connections.close(300)
        expect(performance.now() - began).toBeGreaterThan(290)
        await ended(socket.resume())
      },
    )
  })
})
