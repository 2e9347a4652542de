import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, ParseResult, Schema } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Settings } from "../Config.ts"
import { gathering } from "../domain/Bytes.ts"
import { isTooDeep, maxJsonDepth } from "../domain/Json.ts"
import { ClientGone, UploadStalled, type UploadTooSlow } from "../publish/Refusals.ts"
import { apiError, type ApiError, badRequest } from "./ApiErrors.ts"
import { toApiError } from "./Refusals.ts"
import { continueIfAsked } from "./upload/EarlyAnswer.ts"
import { watchPace } from "./upload/Pace.ts"

/** Many times what any call needs: what has come of bodies that never end waits in memory. */
const limitBytes = 64 * 1024

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

/** Ends, as an upload does, by lack of progress: after `idleSeconds` without a byte, or by its pace. */
const collect = (
  req: IncomingMessage,
  res: ServerResponse,
  idleSeconds: number,
): Effect.Effect<Buffer, ApiError | ClientGone | UploadStalled | UploadTooSlow> =>
  Effect.async((resume) => {
    const gathered = gathering()
    const stop = () => {
      clearTimeout(idle)
      pace.stop()
      req.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone)
      req.pause()
    }
    const refuse = (refusal: ApiError | ClientGone | UploadStalled | UploadTooSlow) => {
      stop()
      resume(Effect.fail(refusal))
    }
    const onData = (chunk: Buffer) => {
      idle.refresh()
      pace.came(chunk.length)
      if (gathered.size() + chunk.length > limitBytes) return refuse(tooLarge)
      gathered.add(chunk)
    }
    const onEnd = () => {
      stop()
      resume(Effect.succeed(gathered.bytes()))
    }
    const onGone = () => refuse(new ClientGone())
    if (Number(req.headers["content-length"]) > limitBytes) return resume(Effect.fail(tooLarge))
    const idle = setTimeout(() => refuse(new UploadStalled({ idleSeconds })), idleSeconds * 1000)
    const pace = watchPace(refuse)
    pace.waiting()
    continueIfAsked(req, res)
    req.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone)
    req.resume()
    return Effect.sync(stop)
  })

/** Reads and decodes a JSON body of at most 64 KiB. An empty body reads as `{}`. */
export const jsonBody = <A, I>(
  request: HttpServerRequest.HttpServerRequest,
  schema: Schema.Schema<A, I>,
): Effect.Effect<A, ApiError, Settings> =>
  Effect.gen(function* () {
    const { uploadIdleSeconds } = yield* Settings
    const type = request.headers["content-type"]
    const body = yield* collect(
      NodeHttpServerRequest.toIncomingMessage(request),
      NodeHttpServerRequest.toServerResponse(request),
      uploadIdleSeconds,
    ).pipe(Effect.mapError(toApiError))
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
