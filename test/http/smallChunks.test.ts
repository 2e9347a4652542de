import type { Server } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { setImmediate as turn } from "node:timers/promises"
import { Worker } from "node:worker_threads"
import { describe, expect, it } from "vitest"
import { makeServer } from "../../src/http/Server.ts"

const KiB = 1024

/** A client of its own thread: sends `bodies` of `bytes` in chunks of `size`, at once, and tells the answers. */
const sender = `
const { parentPort, workerData: { port, bodies, bytes, size } } = require("node:worker_threads")
const { connect } = require("node:net")
const chunk = size.toString(16) + "\\r\\n" + "x".repeat(size) + "\\r\\n"
const body = "POST / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n" + chunk.repeat(bytes / size) + "0\\r\\n\\r\\n"
const answers = []
for (let n = 0; n < bodies; n++) {
  const socket = connect(port, "127.0.0.1")
  let text = ""
  socket.on("data", (data) => { text += data })
  socket.on("close", () => answers.push(text.split("\\r\\n\\r\\n")[1]) === bodies && parentPort.postMessage(answers))
  socket.write(body)
}`

interface Seen {
  readonly answers: ReadonlyArray<string>
  readonly millis: number
  /** The most that was read of one socket in one turn of the event loop, in bytes. */
  readonly mostInOneTurn: number
  /** How many pieces of a body its reader was given, of the body with the most. */
  readonly mostPieces: number
  /** How many times a socket was not to be read. */
  readonly pauses: number
}

/** Sends bodies to a server that answers each with its size. */
const send = async (bodies: number, bytes: number, size: number): Promise<Seen> => {
  const server: Server = makeServer()
  const sockets = new Map<Socket, number>()
  let mostPieces = 0
  let pauses = 0
  server.on("connection", (socket: Socket) => {
    sockets.set(socket, 0)
    socket.on("pause", () => pauses++)
  })
  server.on("request", (req, res) => {
    let got = 0
    let pieces = 0
    req.on("data", (chunk: Buffer) => {
      got += chunk.length
      mostPieces = Math.max(mostPieces, ++pieces)
    })
    req.on("end", () => res.end(String(got)))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  let watching = true
  let mostInOneTurn = 0
  const watch = async () => {
    while (watching) {
      await turn()
      for (const [socket, before] of sockets) {
        mostInOneTurn = Math.max(mostInOneTurn, socket.bytesRead - before)
        sockets.set(socket, socket.bytesRead)
      }
    }
  }
  const watched = watch()
  const began = performance.now()
  const worker = new Worker(sender, { eval: true, workerData: { port, bodies, bytes, size } })
  try {
    const answers = await new Promise<ReadonlyArray<string>>((resolve, reject) =>
      worker.once("message", resolve).once("error", reject),
    )
    return { answers, millis: performance.now() - began, mostInOneTurn, mostPieces, pauses }
  } finally {
    watching = false
    await watched
    await worker.terminate()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}

describe("bodies in small chunks", () => {
  it("of one byte are read one read at a time, 100,000 chunks a second, and whole", async () => {
    const seen = await send(4, 64 * KiB, 1)
    expect(seen.answers).toEqual(Array(4).fill(String(64 * KiB)))
    expect(seen.mostInOneTurn).toBeLessThanOrEqual(64 * KiB)
    // 262,144 chunks. The last read of each body is waited for, too.
    expect(seen.millis).toBeGreaterThan(2500)
    // Each chunk is six bytes on the wire, and a read holds 64 KiB.
    expect(seen.mostPieces).toBeLessThanOrEqual(64)
  })

  it("of 2 KiB never wait", async () => {
    const seen = await send(4, 16 * KiB * KiB, 2 * KiB)
    expect(seen.answers).toEqual(Array(4).fill(String(16 * KiB * KiB)))
    expect(seen.pauses).toBe(0)
  })

  it("of several requests on one connection, sent at once, are each whole", async () => {
    const server = makeServer()
    server.on("request", (req, res) => {
      const chunks: Array<Buffer> = []
      req.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => res.end(Buffer.concat(chunks)))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo
    try {
      const bodies = [200, 3, 500, 64, 0].map((bytes, n) => String(n).repeat(bytes))
      const requests = bodies.map((body, n) => {
        const head = `POST / HTTP/1.1\r\nHost: x\r\n${n === 4 ? "Connection: close\r\n" : ""}`
        const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join("")
        return `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`
      })
      const text = await new Promise<string>((resolve) => {
        const socket = connect(port, "127.0.0.1")
        let seen = ""
        socket.on("data", (data) => {
          seen += data.toString("latin1")
        })
        socket.on("close", () => resolve(seen)).on("error", () => undefined)
        socket.write(requests.join(""))
      })
      const answers = text.split("HTTP/1.1 200 OK\r\n").slice(1)
      expect(answers.map((answer) => answer.split("\r\n\r\n")[1])).toEqual(bodies)
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })

  it("of which a read holds few never wait", async () => {
    // Each request is one read, or two: 20 chunks of 100 bytes.
    const { answers, mostPieces, pauses } = await send(200, 2000, 100)
    expect(answers).toEqual(Array(200).fill("2000"))
    expect(mostPieces).toBeLessThanOrEqual(2)
    expect(pauses).toBe(0)
  })
})

describe("a body that nobody reads", () => {
  it("ends its connection with the answer", async () => {
    const server = makeServer()
    server.on("request", (_, res) => res.end("done"))
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo
    try {
      const text = await new Promise<string>((resolve) => {
        const socket = connect(port, "127.0.0.1")
        let seen = ""
        const chunks = () => {
          if (socket.writable && socket.write("1\r\nx\r\n".repeat(5000))) setImmediate(chunks)
        }
        socket.on("data", (data) => {
          seen += data.toString("latin1")
        })
        socket.on("drain", chunks).on("error", () => undefined)
        socket.on("close", () => resolve(seen))
        socket.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        setTimeout(chunks, 200)
      })
      expect(text).toContain("Connection: close")
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})
