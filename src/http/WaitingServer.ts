import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Cause, Effect, Runtime } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Settings } from "../Config.ts"
import { unavailable } from "./ApiErrors.ts"
import { type Answer, refusal, write } from "./Edge.ts"
import { makeServer } from "./Server.ts"

const lives: Answer = {
  status: 200,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ status: "ok" }),
}

/**
 * What listens on HOST and PORT, until its scope closes, while the node cannot be built: `/healthz` says that the process
 * lives, so that no orchestrator ends it, and all else is 503. `missing`: the dependency that is waited for.
 */
export const serveWaiting = (missing: () => string) =>
  Effect.gen(function* () {
    const { host, port } = yield* Settings
    const run = Runtime.runFork(yield* Effect.runtime())
    const server = makeServer()
    server.on("request", (req: IncomingMessage, res: ServerResponse) => {
      const answer =
        req.url?.split("?", 1)[0] === "/healthz"
          ? Effect.succeed(lives)
          : refusal(req, res, Cause.fail(unavailable(`Not reached yet: ${missing()}.`)))
      run(Effect.map(answer, (answer) => write(res, answer)))
    })
    yield* NodeHttpServer.make(() => server, { host, port })
    // Before the port is let go, which waits for those who keep a connection.
    yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  })
