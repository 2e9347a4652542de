import { Effect, Redacted } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Settings } from "../Config.ts"
import type { ProjectCaller } from "../domain/Principal.ts"
import { publish } from "../publish/Publish.ts"
import { badRequest } from "./ApiErrors.ts"
import { encodeArtifact } from "./ArtifactJson.ts"
import type { Answer } from "./Edge.ts"
import { receiveMultipart } from "./upload/Receiver.ts"
import { UploadGate } from "./UploadGate.ts"

/** Publishing over HTTP: the head becomes a request, the body stays a stream that `publish` reads when it is due. */
export const publishOverHttp = Effect.fnUntraced(function* (
  req: IncomingMessage,
  res: ServerResponse,
  caller: ProjectCaller,
) {
  const { uploadIdleSeconds } = yield* Settings
  const { headers } = req
  if (!/^multipart\/form-data\s*;/i.test(headers["content-type"] ?? ""))
    return yield* Effect.fail(badRequest("The body must be multipart/form-data with a boundary."))
  yield* (yield* UploadGate).enter(caller.project)
  const token = headers["x-mobius-lease-token"]?.toString()
  const length = headers["content-length"]
  const { artifact, status } = yield* publish({
    caller,
    leaseToken: token === undefined || token === "" ? undefined : Redacted.make(token),
    idempotencyKey: headers["idempotency-key"]?.toString(),
    contentLength: length === undefined ? undefined : Number(length),
    receive: (handlers, signal) => receiveMultipart(req, res, { ...handlers, signal, idleSeconds: uploadIdleSeconds }),
  })
  const answer: Answer = {
    status,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(encodeArtifact(artifact)),
  }
  return answer
}, Effect.scoped)
