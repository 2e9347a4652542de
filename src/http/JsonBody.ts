import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, ParseResult, Schema } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { isTooDeep, maxJsonDepth } from "../domain/Json.ts"
import { apiError, type ApiError, badRequest } from "./ApiErrors.ts"
import { continueIfAsked } from "./upload/EarlyAnswer.ts"

const limitBytes = 1024 * 1024

const tooLarge = apiError(413, "payload_too_large", `A JSON body may have at most ${limitBytes} bytes.`, {
  details: { limit: limitBytes },
})

/** What a decoding error says to the caller: where it is wrong and how, without the schema. */
export const describeIssues = (
  issues: ReadonlyArray<{ readonly path: ReadonlyArray<PropertyKey>; readonly message: string }>,
): string =>
  issues
    // An optional value has "absent" as its other form, which helps nobody who gave one.
    .filter(({ message }) => !message.startsWith("Expected undefined"))
    .map(({ message, path }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`))
    .join("; ")
    .slice(0, 1000)

const collect = (req: IncomingMessage, res: ServerResponse): Effect.Effect<Buffer, ApiError> =>
  Effect.async<Buffer, ApiError>((resume) => {
    const chunks: Array<Buffer> = []
    let size = 0
    const stop = () => {
      req.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone)
      req.pause()
    }
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size <= limitBytes) return void chunks.push(chunk)
      stop()
      resume(Effect.fail(tooLarge))
    }
    const onEnd = () => {
      stop()
      resume(Effect.succeed(Buffer.concat(chunks)))
    }
    const onGone = () => {
      stop()
      resume(Effect.fail(badRequest("The connection closed before the body was whole.")))
    }
    if (Number(req.headers["content-length"]) > limitBytes) return resume(Effect.fail(tooLarge))
    continueIfAsked(req, res)
    req.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone)
    req.resume()
    return Effect.sync(stop)
  }).pipe(Effect.timeoutFail({ duration: "30 seconds", onTimeout: () => badRequest("The body did not come in time.") }))

/** Reads and decodes a JSON body of at most 1 MiB. An empty body reads as `{}`. */
export const jsonBody = <A, I>(
  request: HttpServerRequest.HttpServerRequest,
  schema: Schema.Schema<A, I>,
): Effect.Effect<A, ApiError> =>
  Effect.gen(function* () {
    const type = request.headers["content-type"]
    const body = yield* collect(
      NodeHttpServerRequest.toIncomingMessage(request),
      NodeHttpServerRequest.toServerResponse(request),
    )
    if (body.length > 0 && type !== undefined && !/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type))
      return yield* Effect.fail(badRequest("The body must be JSON."))
    const parsed = yield* Effect.try({
      try: (): unknown => (body.length === 0 ? {} : JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body))),
      catch: () => badRequest("The body is not valid JSON."),
    })
    if (isTooDeep(parsed))
      return yield* Effect.fail(badRequest(`The body is nested more than ${maxJsonDepth} levels deep.`))
    return yield* Schema.decodeUnknown(schema)(parsed).pipe(
      Effect.mapError((error) => badRequest(describeIssues(ParseResult.ArrayFormatter.formatErrorSync(error)))),
    )
  })
