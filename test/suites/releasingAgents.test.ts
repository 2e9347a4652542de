import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import { createServer, type IncomingMessage, request } from "node:http"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { ReleasingAgent } from "../../layers/clients/releasingAgents.ts"

const bytes = randomBytes(3 * 1024 * 1024 + 17)
const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex")

/** Whole with a length, chunked, or nothing at all: by the path. */
const server = createServer((req, res) => {
  if (req.url === "/chunked")
    for (let at = 0; at < bytes.length; at += 300_000) res.write(bytes.subarray(at, at + 300_000))
  res.end(req.url === "/whole" ? bytes : undefined)
})

describe("ReleasingAgent", () => {
  const agent = new ReleasingAgent({ keepAlive: true, maxSockets: 1 })
  const reads: Array<Buffer> = []
  beforeAll(async () => {
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
  })
  afterAll(() => {
    agent.destroy()
    server.close()
  })

  const get = async (path: string, slowly = false): Promise<Buffer> => {
    const { port } = server.address() as AddressInfo
    const sent = request({ agent, host: "127.0.0.1", port, path }).end()
    sent.once("socket", (socket) => {
      if (!sent.reusedSocket) socket.on("data", (read: Buffer) => reads.push(read))
    })
    const [answer] = (await once(sent, "response")) as [IncomingMessage]
    const chunks: Array<Buffer> = []
    for await (const chunk of answer) {
      chunks.push(chunk)
      if (slowly) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return Buffer.concat(chunks)
  }

  it("brings bodies as they were sent, over one connection, whole and chunked, read fast and slowly", async () => {
    for (const path of ["/whole", "/chunked", "/empty", "/whole", "/chunked"])
      for (const slowly of [false, true])
        expect(sha256(await get(path, slowly))).toBe(sha256(path === "/empty" ? Buffer.alloc(0) : bytes))
  })

  it("gives back the memory of what the socket read", () => {
    expect(reads.length).toBeGreaterThan(50)
    expect(reads.map(({ byteLength }) => byteLength).filter((bytes) => bytes >= 4096)).toEqual([])
  })
})
