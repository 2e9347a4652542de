import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, Redacted } from "effect"
import { Settings } from "../Config.ts"
import { namesLineage } from "../publish/Fields.ts"
import { publish } from "../publish/Publish.ts"
import { LineageNotAllowed } from "../publish/Refusals.ts"
import { badRequest } from "./ApiErrors.ts"
import { encodeArtifact } from "./ArtifactJson.ts"
import { projectCaller } from "./Auth.ts"
import { translated } from "./Refusals.ts"
import { receiveMultipart } from "./upload/Receiver.ts"
import { UploadGate } from "./UploadGate.ts"

const { toIncomingMessage, toServerResponse } = NodeHttpServerRequest

/** A query that tells where the artifact comes from is refused like a part that does; other parameters mean nothing. */
const refuseLineage = (request: HttpServerRequest.HttpServerRequest) => {
  const query = request.url.split("?", 2)[1]
  const field = query === undefined ? undefined : [...new URLSearchParams(query).keys()].find(namesLineage)
  return field === undefined ? Effect.void : Effect.fail(new LineageNotAllowed({ field: field.slice(0, 200) }))
}

/** Publishing over HTTP: the head becomes a request, the body stays a stream that `publish` reads when it is due. */
export const publishOverHttp = (request: HttpServerRequest.HttpServerRequest, project: string | undefined) =>
  Effect.gen(function* () {
    const caller = yield* projectCaller(project)
    const { uploadIdleSeconds } = yield* Settings
    const req = toIncomingMessage(request)
    const res = toServerResponse(request)
    yield* refuseLineage(request)
    if (!/^multipart\/form-data\s*;/i.test(request.headers["content-type"] ?? ""))
      return yield* Effect.fail(badRequest("The body must be multipart/form-data with a boundary."))
    yield* (yield* UploadGate).enter
    const token = request.headers["x-mobius-lease-token"]
    const length = request.headers["content-length"]
    const { artifact, status } = yield* publish({
      caller,
      leaseToken: token === undefined || token === "" ? undefined : Redacted.make(token),
      idempotencyKey: request.headers["idempotency-key"],
      contentLength: length === undefined ? undefined : Number(length),
      receive: (handlers, signal) =>
        receiveMultipart(req, res, { ...handlers, signal, idleSeconds: uploadIdleSeconds }),
    })
    return HttpServerResponse.unsafeJson(encodeArtifact(artifact), { status })
  }).pipe(Effect.scoped, translated)
