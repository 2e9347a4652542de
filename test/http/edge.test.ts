import { Cause, Effect, Exit, FiberId } from "effect"
import { once } from "node:events"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { type Answer, refusal, write } from "../../src/http/Edge.ts"

/** What a route that was interrupted makes of one request, with the client still there or not. */
const interrupted = async (
  client: "stays" | "leaves",
): Promise<{ readonly exit: Exit.Exit<Answer | undefined>; readonly status: number | undefined }> => {
  const server = createServer()
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  try {
    const sent = request({ host: "127.0.0.1", port: (server.address() as AddressInfo).port, agent: false }).end()
    const status = new Promise<number | undefined>((resolve) => {
      sent.on("response", (answer) => resolve(answer.resume().statusCode))
      sent.on("error", () => resolve(undefined))
    })
    const [req, res] = (await once(server, "request")) as [IncomingMessage, ServerResponse]
    if (client === "leaves") {
      sent.destroy()
      await once(res, "close")
    }
    const exit = await Effect.runPromiseExit(refusal(req, res, Cause.interrupt(FiberId.none)))
    if (Exit.isSuccess(exit)) write(res, exit.value)
    return { exit, status: await status }
  } finally {
    server.close()
  }
}

describe("a route that was interrupted", () => {
  it("answers 503 while its client waits", async () => {
    const { exit, status } = await interrupted("stays")
    expect(status).toBe(503)
    const answer = Exit.getOrElse(exit, () => undefined)
    expect(answer?.headers["retry-after"]).toBe("2")
    expect(JSON.parse(answer?.body ?? "")).toMatchObject({ error: { code: "service_unavailable" } })
  })

  it("says nothing to one that has left", async () => {
    const { exit, status } = await interrupted("leaves")
    expect(status).toBeUndefined()
    expect(Exit.isInterrupted(exit)).toBe(true)
  })
})
