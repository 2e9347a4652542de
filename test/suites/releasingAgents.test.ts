import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import * as http from "node:http"
import * as https from "node:https"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { ReleasingAgent, ReleasingSecureAgent } from "../../layers/clients/releasingAgents.ts"

const bytes = randomBytes(3 * 1024 * 1024 + 17)
const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex")

/** Whole with a length, chunked, or nothing at all: by the path. */
const answer: http.RequestListener = (req, res) => {
  if (req.url === "/chunked")
    for (let at = 0; at < bytes.length; at += 300_000) res.write(bytes.subarray(at, at + 300_000))
  res.end(req.url === "/whole" ? bytes : undefined)
}

// A key that both sides know, in the place of certificates.
const psk = randomBytes(32)
const tls = { ciphers: "PSK-AES128-GCM-SHA256", maxVersion: "TLSv1.2" } as const
const connections = { keepAlive: true, maxSockets: 1 }

const cases = [
  {
    name: "ReleasingAgent",
    server: http.createServer(answer),
    agent: new ReleasingAgent(connections),
    request: http.request,
  },
  {
    name: "ReleasingSecureAgent",
    server: https.createServer({ ...tls, pskCallback: () => psk }, answer),
    agent: new ReleasingSecureAgent({
      ...connections,
      ...tls,
      pskCallback: () => ({ psk, identity: "test" }),
      checkServerIdentity: () => undefined,
    }),
    request: https.request,
  },
]

describe.each(cases)("$name", ({ agent, request, server }) => {
  beforeAll(async () => {
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
  })
  afterAll(() => {
    agent.destroy()
    server.close()
  })

  /** The body, and what the connection's socket gave its listeners meanwhile. */
  const get = async (path: string, slowly = false) => {
    const { port } = server.address() as AddressInfo
    const reads: Array<Buffer> = []
    const sent = request({ agent, host: "127.0.0.1", port, path }).end()
    const keep = (read: Buffer) => void reads.push(read)
    sent.once("socket", (socket) => socket.on("data", keep))
    const [response] = (await once(sent, "response")) as [http.IncomingMessage]
    const { socket } = response
    const chunks: Array<Buffer> = []
    for await (const chunk of response) {
      chunks.push(chunk)
      if (slowly) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    socket.off("data", keep)
    return { body: Buffer.concat(chunks), reads, reused: sent.reusedSocket }
  }

  it("brings bodies as they were sent, over one connection, whole and chunked, read fast and slowly", async () => {
    await get("/empty")
    for (const path of ["/whole", "/chunked", "/empty", "/whole", "/chunked"])
      for (const slowly of [false, true]) {
        const { body, reused } = await get(path, slowly)
        expect(reused).toBe(true)
        expect(sha256(body)).toBe(sha256(path === "/empty" ? Buffer.alloc(0) : bytes))
      }
  })

  it("gives back the memory of what the socket read", async () => {
    const { reads } = await get("/whole")
    expect(reads.length).toBeGreaterThan(20)
    expect(reads.map(({ byteLength }) => byteLength).filter((bytes) => bytes >= 4096)).toEqual([])
  })
})
