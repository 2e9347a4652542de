import * as HttpApiError from "@effect/platform/HttpApiError"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerError from "@effect/platform/HttpServerError"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Cause, Effect } from "effect"
import { refused } from "../telemetry/Refused.ts"
import { ApiError, badRequest, internal, notFound } from "./ApiErrors.ts"
import { describeIssues } from "./JsonBody.ts"
import { answerEarly, bodyPending } from "./upload/EarlyAnswer.ts"

const { toIncomingMessage, toServerResponse } = NodeHttpServerRequest

/** A fault nobody foresaw: a line in the log with the request's id, and words without a cause for the caller. */
const fault = (request: HttpServerRequest.HttpServerRequest, cause: Cause.Cause<unknown>) =>
  Effect.as(Effect.logError(`${request.method} ${pathOf(request)} failed`, cause), internal)

/** The path alone: a query may hold a signature. */
const pathOf = (request: HttpServerRequest.HttpServerRequest) => request.url.split("?", 1)[0] ?? ""

const toAnswer = (
  request: HttpServerRequest.HttpServerRequest,
  cause: Cause.Cause<unknown>,
): Effect.Effect<ApiError> => {
  const error = Cause.squash(cause)
  if (error instanceof ApiError) return Effect.succeed(error)
  if (error instanceof HttpServerError.RouteNotFound) return Effect.succeed(notFound())
  if (error instanceof HttpApiError.HttpApiDecodeError) return Effect.succeed(badRequest(describeIssues(error.issues)))
  return fault(request, cause)
}

/** Sends an error, early when the request's body was not read, in the one shape that errors have. */
const send = (
  request: HttpServerRequest.HttpServerRequest,
  error: ApiError,
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  refused(error.error.code)
  const req = toIncomingMessage(request)
  const res = toServerResponse(request)
  if (res.headersSent) {
    res.destroy()
    res.end()
    return Effect.succeed(HttpServerResponse.empty())
  }
  const body = JSON.stringify({ error: error.error })
  const headers = { "content-type": "application/json", "cache-control": "no-store", ...error.headers }
  if (bodyPending(req))
    return Effect.as(
      Effect.promise(() => answerEarly(req, res, { status: error.status, headers, body })),
      HttpServerResponse.empty(),
    )
  return Effect.succeed(
    HttpServerResponse.text(body, { status: error.status, headers, contentType: "application/json" }),
  )
}

/** Turns whatever a route failed with into the envelope; interruption means the client left and is let through. */
export const envelopes = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<never, R> =>
  Effect.catchAllCause(app, (cause) =>
    Cause.isInterruptedOnly(cause)
      ? (Effect.interrupt as Effect.Effect<never>)
      : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Effect.flatMap(toAnswer(request, cause), (error) => send(request, error)),
        ),
  ) as HttpApp.Default<never, R>
