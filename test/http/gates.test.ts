import { describe, expect, it } from "@effect/vitest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { ConfigProvider, Effect, Exit, Layer, Schedule, Scope, TestServices } from "effect"
import { once } from "node:events"
import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import * as Settings from "../../src/Config.ts"
import type { ApiError } from "../../src/http/ApiErrors.ts"
import * as Gates from "../../src/http/Gates.ts"
import { sent } from "../../src/http/Sending.ts"

const MiB = 1024 * 1024

const gates = Gates.layer.pipe(
  Layer.provide(Settings.layer),
  Layer.provide(
    Layer.setConfigProvider(
      ConfigProvider.fromMap(
        new Map([
          ["MAX_OPEN_DOWNLOADS", "4"],
          ["MAX_OPEN_STREAMS", "2"],
        ]),
      ),
    ),
  ),
)

const answerOf = (taken: Effect.Effect<void, ApiError, Scope.Scope>) =>
  Effect.map(Effect.either(taken), (result) =>
    result._tag === "Right" ? 200 : [result.left.status, result.left.error.code, result.left.headers?.["retry-after"]],
  )
const unavailable = [503, "service_unavailable", "2"]

describe("what the node holds for its readers", () => {
  it.scoped("downloads and streams are counted apart, each up to its limit", () =>
    Effect.gen(function* () {
      const { download, stream } = yield* Gates.Gates
      for (let n = 0; n < 4; n++) expect(yield* answerOf(download("a"))).toBe(200)
      expect(yield* answerOf(download("a"))).toEqual(unavailable)
      for (let n = 0; n < 2; n++) expect(yield* answerOf(stream("a"))).toBe(200)
      expect(yield* answerOf(stream("a"))).toEqual(unavailable)
    }).pipe(Effect.provide(gates)),
  )

  it.scoped("bytes that wait have a share for each project, until they were taken; few are not counted", () =>
    Effect.gen(function* () {
      const { waiting } = yield* Gates.Gates
      yield* waiting("b", MiB)
      const taken = yield* Scope.make()
      for (let n = 0; n < 32; n++) yield* Scope.extend(waiting("a", MiB), taken)
      expect(yield* answerOf(waiting("a", MiB))).toEqual(unavailable)
      expect(yield* answerOf(waiting("a", 1000))).toBe(200)
      expect(yield* answerOf(waiting("b", MiB))).toBe(200)
      yield* Scope.close(taken, Exit.void)
      expect(yield* answerOf(waiting("a", MiB))).toBe(200)
    }).pipe(Effect.provide(gates)),
  )

  it.scoped("an answer that would wait beyond them is refused, until another one's client took it or left", () =>
    Effect.gen(function* () {
      const { answers } = yield* Gates.Gates
      const large = Effect.succeed(HttpServerResponse.uint8Array(new Uint8Array(16 * MiB)))
      const app = Effect.catchAll(answers(large), ({ status }) => HttpServerResponse.empty({ status }))
      const handler = yield* NodeHttpServer.makeHandler(sent(app))
      const server = yield* Effect.acquireRelease(
        Effect.sync(() => createServer(handler)),
        (server) => Effect.sync(() => server.close().closeAllConnections()),
      )
      yield* Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening"))
      const { port } = server.address() as AddressInfo
      /** The status of an answer of which nothing more is read. */
      const stalled = Effect.promise(async () => {
        const socket = connect(port, "127.0.0.1")
        socket.write("GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await once(socket, "readable")
        return { socket, status: (socket.read() as Buffer).toString("latin1", 9, 12) }
      })
      const first = yield* stalled
      for (let n = 0; n < 3; n++) expect((yield* stalled).status).toBe("200")
      expect((yield* stalled).status).toBe("503")
      first.socket.destroy()
      const again = Effect.filterOrFail(stalled, ({ status }) => status === "200")
      yield* Effect.retry(again, { times: 50, schedule: Schedule.spaced("20 millis") })
    }).pipe(Effect.provide(gates), TestServices.provideLive),
  )
})
