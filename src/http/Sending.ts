import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect } from "effect"
import type { ServerResponse } from "node:http"

const send = (res: ServerResponse, { body, headers, status }: HttpServerResponse.HttpServerResponse): void => {
  if (res.headersSent || (body._tag !== "Uint8Array" && body._tag !== "Empty")) return
  res.writeHead(status, headers)
  res.end(body._tag === "Uint8Array" ? body.body : undefined)
}

/**
 * Hands answers that are whole in memory to Node, which sends them. The platform would wait for their last byte in the
 * request's fiber: for ever, when the connection ends while an answer waits behind another one of the same connection.
 * Fiber and answer would stay in memory.
 */
export const sent = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.flatMap(app, (response) =>
    Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
      send(NodeHttpServerRequest.toServerResponse(request), response)
      return response
    }),
  )
