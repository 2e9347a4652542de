import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { describe, expect, it } from "vitest"
import { cutStalledReaders } from "../../src/http/StalledReaders.ts"
import { sleep } from "../support/processes.ts"

const KiB = 1024
const MiB = 1024 * KiB
const idleSeconds = 1
const get = "GET / HTTP/1.1\r\nHost: here\r\n\r\n"

interface Scene {
  /** A client that reads nothing before it is told to. */
  readonly open: () => Promise<Socket>
  /** Answers in the order of their requests. */
  readonly answers: Array<ServerResponse>
}

const withServer = async (answer: (res: ServerResponse) => void, work: (scene: Scene) => Promise<void>) => {
  const server = createServer({ keepAliveTimeout: 65_000 })
  const stop = cutStalledReaders(server, idleSeconds)
  const answers: Array<ServerResponse> = []
  server.on("request", (_, res) => {
    answers.push(res)
    answer(res)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const sockets: Array<Socket> = []
  try {
    await work({
      answers,
      open: async () => {
        const socket = connect((server.address() as AddressInfo).port, "127.0.0.1")
        socket.on("error", () => {})
        sockets.push(socket)
        await once(socket, "connect")
        return socket
      },
    })
  } finally {
    stop()
    for (const socket of sockets) socket.destroy()
    server.closeAllConnections()
    server.close()
  }
}

/** Whether the answer's connection is gone within this time. */
const cutWithin = async ({ socket }: ServerResponse, millis: number) => {
  if (socket === null || socket.destroyed) return true
  return await Promise.race([once(socket, "close").then(() => true), sleep(millis).then(() => false)])
}

const answered = async (answers: ReadonlyArray<ServerResponse>): Promise<ServerResponse> => {
  for (;;) {
    const [res] = answers
    if (res !== undefined) return res
    await sleep(10)
  }
}

const endless = (res: ServerResponse) => {
  const chunk = Buffer.alloc(64 * KiB)
  const more = (error?: Error | null) => {
    if (!error && !res.destroyed) res.write(chunk, more)
  }
  more()
}

describe("clients that take nothing", () => {
  it.each([
    ["an answer given at once", (res: ServerResponse) => void res.end(Buffer.alloc(64 * MiB))],
    ["an answer given bit by bit", endless],
  ])("are cut off: %s", async (_, answer) => {
    await withServer(answer, async ({ answers, open }) => {
      const socket = await open()
      socket.write(get)
      expect(await cutWithin(await answered(answers), 15_000)).toBe(true)
    })
  })

  it("are cut off although they send", async () => {
    await withServer(
      (res) => void res.end(Buffer.alloc(64 * MiB)),
      async ({ answers, open }) => {
        const socket = await open()
        socket.write(get)
        const res = await answered(answers)
        socket.write("GET / HTTP/1.1\r\nX-Long: ")
        const timer = setInterval(() => socket.write("a"), 50)
        expect(await cutWithin(res, 15_000)).toBe(true)
        clearInterval(timer)
      },
    )
  })

  it("are cut off after they took a part of it", async () => {
    await withServer(endless, async ({ answers, open }) => {
      const socket = await open()
      socket.write(get)
      socket.resume()
      await sleep(2_500)
      const res = await answered(answers)
      expect(res.socket?.destroyed).toBe(false)
      socket.pause()
      expect(await cutWithin(res, 15_000)).toBe(true)
    })
  })
})

describe("clients that are let be", () => {
  it("slow ones, whose system takes megabytes at once, to the last byte", { timeout: 60_000 }, async () => {
    const size = 12 * MiB
    await withServer(
      (res) => void res.end(Buffer.alloc(size)),
      async ({ answers, open }) => {
        const socket = await open()
        socket.write(get)
        const res = await answered(answers)
        let got = 0
        // 320 KiB a second: what the systems hold between the two is many seconds of it.
        for (let n = 0; n < 100; n++) {
          await sleep(100)
          got += (socket.read(32 * KiB) as Buffer | null)?.length ?? 0
        }
        expect(got).toBeLessThan(4 * MiB)
        expect(res.socket?.destroyed).toBe(false)
        socket.on("data", (chunk) => (got += chunk.length))
        while (got < size) {
          expect(socket.destroyed).toBe(false)
          await sleep(20)
        }
      },
    )
  })

  it("those to which there is nothing to send: an idle connection, a silent stream", async () => {
    await withServer(
      (res) => void res.write(": hello\n\n"),
      async ({ answers, open }) => {
        await open()
        const stream = await open()
        stream.write(get)
        const res = await answered(answers)
        await sleep(3_000)
        expect(res.socket?.destroyed).toBe(false)
        expect((stream.read() as Buffer).toString()).toContain(": hello")
      },
    )
  })
})
