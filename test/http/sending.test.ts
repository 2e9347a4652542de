import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Effect, Fiber } from "effect"
import { once } from "node:events"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { describe, expect, it } from "vitest"
import { sent } from "../../src/http/Sending.ts"
import { sleep } from "../support/processes.ts"

const MiB = 1024 * 1024

const withApp = async (app: HttpApp.Default, work: (port: number, ended: () => Promise<void>) => Promise<void>) => {
  const server = createServer()
  const handler = await Effect.runPromise(NodeHttpServer.makeHandler(sent(app)))
  const closed: Array<Promise<unknown>> = []
  server.on("request", (req: IncomingMessage, res: ServerResponse) => {
    closed.push(once(res, "close"))
    handler(req, res)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  try {
    await work((server.address() as AddressInfo).port, async () => void (await Promise.all(closed)))
  } finally {
    server.close()
  }
}

const answer = (port: number, method: string) =>
  new Promise<{ status: number | undefined; type: string | undefined; text: string }>((resolve, reject) => {
    const sending = request({ host: "127.0.0.1", port, method, agent: false }, async (res) => {
      let text = ""
      for await (const chunk of res.setEncoding("utf8")) text += chunk
      resolve({ status: res.statusCode, type: res.headers["content-type"], text })
    })
    sending.on("error", reject).end()
  })

describe("answers that are whole in memory", () => {
  it("arrive with status, type and body; a HEAD without the body", async () => {
    const json = HttpServerResponse.unsafeJson({ a: "\u00e9" }, { status: 201 })
    await withApp(Effect.succeed(json), async (port) => {
      expect(await answer(port, "GET")).toEqual({ status: 201, type: "application/json", text: '{"a":"\u00e9"}' })
      expect(await answer(port, "HEAD")).toEqual({ status: 201, type: "application/json", text: "" })
    })
    await withApp(Effect.succeed(HttpServerResponse.empty({ status: 204 })), async (port) => {
      expect(await answer(port, "GET")).toEqual({ status: 204, type: undefined, text: "" })
    })
  })

  it("leave nothing behind when the client goes before its turn has come", async () => {
    const roots = () => Effect.runSync(Fiber.roots).length
    const before = roots()
    const large = HttpServerResponse.uint8Array(new Uint8Array(32 * MiB))
    await withApp(Effect.succeed(large), async (port, ended) => {
      const socket = connect(port, "127.0.0.1")
      socket.write("GET / HTTP/1.1\r\nHost: here\r\n\r\n".repeat(4))
      await once(socket, "readable")
      socket.destroy()
      await ended()
      await sleep(50)
      expect(roots()).toBe(before)
    })
  })
})
