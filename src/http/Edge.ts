import * as HttpApiError from "@effect/platform/HttpApiError"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerError from "@effect/platform/HttpServerError"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Cause, Effect } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { refused } from "../telemetry/Refused.ts"
import { ApiError, badRequest, internal, notFound, unavailable } from "./ApiErrors.ts"
import { describeIssues } from "./JsonBody.ts"
import { answerEarly, bodyPending } from "./upload/EarlyAnswer.ts"

const { toIncomingMessage, toServerResponse } = NodeHttpServerRequest

/** An answer whole in memory. `undefined` stands for one that the handler sent itself. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Absent: none, and `headers` say all there is to say of its length. */
  readonly body?: string
}

/** Sends an answer; throws on a header that HTTP cannot carry, with nothing sent. */
export const write = (res: ServerResponse, answer: Answer | undefined): void => {
  if (answer === undefined) return
  const { body, headers, status } = answer
  res.writeHead(status, body === undefined ? headers : { ...headers, "content-length": Buffer.byteLength(body) })
  res.end(body)
}

/** A fault nobody foresaw: a line in the log with the request's id, and words without a cause for the caller. */
const fault = (req: IncomingMessage, cause: Cause.Cause<unknown>) =>
  Effect.as(Effect.logError(`${req.method} ${pathOf(req)} failed`, cause), internal)

/** The path alone: a query may hold a signature. */
const pathOf = (req: IncomingMessage) => req.url?.split("?", 1)[0] ?? ""

const toError = (req: IncomingMessage, cause: Cause.Cause<unknown>): Effect.Effect<ApiError> => {
  const error = Cause.squash(cause)
  if (error instanceof ApiError) return Effect.succeed(error)
  if (error instanceof HttpServerError.RouteNotFound) return Effect.succeed(notFound())
  if (error instanceof HttpApiError.HttpApiDecodeError) return Effect.succeed(badRequest(describeIssues(error.issues)))
  return fault(req, cause)
}

/** The envelope of an error; sent at once, and early, when the request's body was not read. */
const envelope = (req: IncomingMessage, res: ServerResponse, error: ApiError): Effect.Effect<Answer | undefined> => {
  refused(error.error.code)
  if (res.headersSent) {
    res.destroy()
    res.end()
    return Effect.succeed(undefined)
  }
  const body = JSON.stringify({ error: error.error })
  const headers = { "content-type": "application/json", "cache-control": "no-store", ...error.headers }
  const answer = { status: error.status, headers, body }
  if (!bodyPending(req)) return Effect.succeed(answer)
  return Effect.as(
    Effect.promise(() => answerEarly(req, res, answer)),
    undefined,
  )
}

/**
 * What to say when a route failed so. Interruption means that the client left, and is let through; while the client is
 * there, something else ended the work, and it may come again.
 */
export const refusal = (
  req: IncomingMessage,
  res: ServerResponse,
  cause: Cause.Cause<unknown>,
): Effect.Effect<Answer | undefined> => {
  if (!Cause.isInterruptedOnly(cause)) return Effect.flatMap(toError(req, cause), (error) => envelope(req, res, error))
  if (res.destroyed) return Effect.interrupt
  return envelope(req, res, unavailable("The node ended this request before it was done."))
}

/** Turns whatever a route of the platform failed with into the envelope. */
export const envelopes = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<never, R> =>
  Effect.catchAllCause(app, (cause) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      Effect.map(refusal(toIncomingMessage(request), toServerResponse(request), cause), (answer) =>
        answer === undefined
          ? HttpServerResponse.empty()
          : HttpServerResponse.text(answer.body ?? "", {
              status: answer.status,
              headers: answer.headers,
              contentType: "application/json",
            }),
      ),
    ),
  ) as HttpApp.Default<never, R>
