import { connect } from "node:net"
import { describe, expect, it } from "vitest"
import { end, head, part, raw, withReceiver } from "./receiving.ts"

describe("an early answer", () => {
  it("is whole at once, while the client still sends, and ends the connection", () =>
    withReceiver(
      async (port) => {
        let closed = false
        let answeredWhileSending = false
        const total = 8 * 1024 * 1024
        await new Promise<void>((resolve) => {
          const socket = connect(port, "127.0.0.1")
          let sent = 0
          let text = ""
          const block = Buffer.alloc(64 * 1024)
          const pump = () => {
            while (sent < total) {
              sent += block.length
              if (!socket.write(block)) return void socket.once("drain", () => setTimeout(pump, 1))
            }
          }
          socket.on("data", (chunk) => {
            text += chunk.toString("latin1")
            if (text.endsWith('{"refused":true}')) answeredWhileSending ||= sent < total
          })
          socket.on("error", () => undefined)
          socket.on("close", () => {
            closed = true
            expect(text).toMatch(/^HTTP\/1.1 403 [\s\S]*connection: close/i)
            resolve()
          })
          socket.write(head(total))
          pump()
        })
        expect(closed).toBe(true)
        expect(answeredWhileSending).toBe(true)
      },
      { refuse: true },
    ))

  it("to Expect: 100-continue comes without a continue, and closes", () =>
    withReceiver(
      async (port) => {
        const answer = await raw(
          port,
          (socket) => socket.write(head(1_000_000, "b", "Expect: 100-continue\r\n")),
          /never/,
        )
        expect(answer).toMatch(/^HTTP\/1.1 403/)
        expect(answer).not.toContain("100 Continue")
      },
      { refuse: true },
    ))

  it("is not given when the body is welcome: 100 Continue, then the answer", () =>
    withReceiver(async (port) => {
      const body = part("name", "x") + end
      const answer = await raw(port, (socket) => {
        socket.write(head(body.length, "b", "Expect: 100-continue\r\n"))
        socket.once("data", () => socket.write(body))
      })
      expect(answer).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200/)
    }))
})
