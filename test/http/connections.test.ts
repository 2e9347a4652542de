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

const withServer = async (
  answer: (res: ServerResponse) => void,
  work: (scene: Scene) => Promise<void>,
  most?: number,
) => {
  const server = createServer({ keepAliveTimeout: 65_000 })
  const connections = watchConnections(server, most)
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

describe("a server that may have eight connections", () => {
  const most = 8
  const isOpen = (socket: Socket) => !socket.destroyed && socket.readable

  it("closes the one that was idle for longest for each that comes", async () => {
    await withServer(
      (res) => void res.end("well"),
      async ({ open, server }) => {
        const used = (await open()).resume()
        const silent: Array<Socket> = []
        for (let n = 0; n < 5; n++) silent.push((await open()).resume())
        // Used lately, so that the silent ones go first.
        used.write(get)
        await once(used, "data")
        for (let n = 0; n < 30; n++) silent.push((await open()).resume())
        const last = await open()
        last.write(get)
        expect((await once(last, "data"))[0].toString()).toContain("200 OK")
        expect(silent[0]?.destroyed).toBe(true)
        expect(
          await new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count))),
        ).toBeLessThanOrEqual(most)
      },
      most,
    )
  })

  it("closes what comes beyond that while all others are busy, and takes the next once one is free", async () => {
    const waiting: Array<ServerResponse> = []
    await withServer(
      (res) => void waiting.push(res),
      async ({ open }) => {
        const busy: Array<Socket> = []
        for (let n = 0; n < most; n++) {
          const socket = (await open()).resume()
          socket.write(get)
          busy.push(socket)
          while (waiting.length < busy.length) await sleep(5)
        }
        const beyond = await open()
        await ended(beyond.resume())
        expect(busy.every(isOpen)).toBe(true)
        for (const res of waiting) res.end("well")
        await sleep(50)
        const next = await open()
        next.write(get)
        while (waiting.length <= most) await sleep(5)
        waiting.at(-1)?.end("well")
        expect((await once(next, "data"))[0].toString()).toContain("200 OK")
      },
      most,
    )
  })
})
