import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { mostConnections } from "../../src/http/OpenFiles.ts"
import { type ProductNode, startNode } from "../support/node.ts"
import { privateDir, sleep } from "../support/processes.ts"
import { filesOpenOf } from "../support/procfs.ts"
import { call, makeTenant, publish } from "./plane.ts"

const openFiles = 512
const adminKey = `mbx_${randomBytes(32).toString("hex")}`

describe("a node that may have few files open", { timeout: 60_000 }, () => {
  const home = privateDir("open-files")
  const sockets: Array<Socket> = []
  let node: ProductNode

  beforeAll(async () => {
    node = await startNode({
      env: { DATA_DIR: home.path, BOOTSTRAP_API_KEY: adminKey },
      openFiles,
      readyWithinMs: 180_000,
    })
  }, 200_000)
  afterAll(async () => {
    for (const socket of sockets) socket.destroy()
    await node?.kill9()
    home.remove()
  })

  it("says at its start how many connections it takes, half of what it does not need for itself", () => {
    const most = mostConnections(openFiles, { databasePoolSize: 10, s3: undefined })
    expect(most).toBeGreaterThan(100)
    expect(node.logs()).toContain(
      `At most ${most} client connections at once, for the process may have ${openFiles} files open`,
    )
  })

  it("publishes and reads while a client without a key opens more connections than there are files", async () => {
    const { baseUrl } = node
    const tenant = await makeTenant(baseUrl, adminKey)
    const port = Number(new URL(baseUrl).port)
    for (let n = 0; n < openFiles + 200; n++) {
      const socket = connect(port, "127.0.0.1")
      socket.on("error", () => {})
      sockets.push(socket)
      socket.resume().write("GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
      if (n % 32 === 0) await Promise.race([once(socket, "connect"), once(socket, "close")])
    }
    await sleep(500)
    const open = filesOpenOf(node.pid)
    expect(open).toBeLessThan(openFiles - 50)
    for (let turn = 0; turn < 5; turn++) {
      const published = await publish(baseUrl, tenant, { name: `f${turn}`, bytes: randomBytes(100_000) })
      expect(published.status).toBe(201)
      const at = `${baseUrl}/v1/projects/${tenant.project}/artifacts/${published.body.id}`
      expect((await call(at, tenant.key)).status).toBe(200)
      const content = await fetch(`${at}/content`, { headers: { authorization: `Bearer ${tenant.key}` } })
      expect((await content.arrayBuffer()).byteLength).toBe(100_000)
    }
    expect(node.logs()).not.toContain("EMFILE")
  })
})
