import { DateTime, Effect } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { type BlobMissing, BlobStore } from "../../../services/BlobStore.ts"
import { ContentHasher } from "../../../services/ContentHasher.ts"
import type { DependencyUnavailable } from "../../../services/Unavailable.ts"
import { Settings } from "../../Config.ts"
import type { Artifact } from "../../domain/Artifact.ts"
import { disposition, mayPreview, previewPolicy } from "../../domain/Preview.ts"
import { type ApiError, apiError } from "../ApiErrors.ts"
import type { Answer } from "../Edge.ts"
import { Gates } from "../Gates.ts"
import { evaluate } from "./Conditions.ts"
import { ReaderLeft, sendBytes } from "./SendLoop.ts"
import { traced } from "../../telemetry/Spans.ts"

const etagOf = (artifact: Artifact) => `"${artifact.sha256}"`

/** What 200, 206 and 304 say alike. */
const validators = (artifact: Artifact): Record<string, string> => ({
  etag: etagOf(artifact),
  "last-modified": DateTime.toDateUtc(artifact.createdAt).toUTCString(),
  "cache-control": "private, no-cache",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
})

const representation = (artifact: Artifact): Record<string, string> => {
  const inline = mayPreview(artifact.mime)
  return {
    ...validators(artifact),
    "content-type": artifact.mime,
    "accept-ranges": "bytes",
    "content-disposition": disposition(inline ? "inline" : "attachment", artifact.name),
    "repr-digest": `sha-256=:${Buffer.from(artifact.sha256, "hex").toString("base64")}:`,
    ...(inline ? { "content-security-policy": previewPolicy } : {}),
  }
}

/**
 * Serves an artifact's bytes, or what the request's conditions ask for instead. The reader is open before the first
 * header goes out, so that a store that is away is still a clean 503; after that a fault cuts the connection.
 */
export const serveContent = traced("Content.serve")((
  req: IncomingMessage,
  res: ServerResponse,
  { artifact, blobKey }: { readonly artifact: Artifact; readonly blobKey: string },
): Effect.Effect<
  Answer | undefined,
  ApiError | BlobMissing | DependencyUnavailable,
  BlobStore | ContentHasher | Gates | Settings
> => {
  const headers = req.headers
  const selection = evaluate(
    {
      ifMatch: headers["if-match"],
      ifNoneMatch: headers["if-none-match"],
      ifModifiedSince: headers["if-modified-since"],
      ifUnmodifiedSince: headers["if-unmodified-since"],
      ifRange: headers["if-range"]?.toString(),
      range: req.method === "HEAD" ? undefined : headers.range,
    },
    {
      etag: etagOf(artifact),
      modified: Math.floor(DateTime.toEpochMillis(artifact.createdAt) / 1000),
      size: artifact.size,
    },
  )
  switch (selection._tag) {
    case "PreconditionFailed":
      return Effect.fail(apiError(412, "precondition_failed", "The artifact is not the one that was meant."))
    case "Unsatisfiable":
      return Effect.fail(
        apiError(416, "range_not_satisfiable", `The artifact has ${artifact.size} bytes.`, {
          headers: { "content-range": `bytes */${artifact.size}` },
        }),
      )
    case "NotModified":
      return Effect.succeed({ status: 304, headers: validators(artifact) })
    case "Full":
    case "Range": {
      const part = selection._tag === "Range" ? selection : { offset: 0, length: artifact.size }
      const all: Record<string, string> = {
        ...representation(artifact),
        "content-length": String(part.length),
        ...(selection._tag === "Range"
          ? { "content-range": `bytes ${part.offset}-${part.offset + part.length - 1}/${artifact.size}` }
          : {}),
      }
      const status = selection._tag === "Range" ? 206 : 200
      return req.method === "HEAD"
        ? Effect.succeed({ status, headers: all })
        : stream(res, artifact, blobKey, part, status, all)
    }
  }
})

const stream = Effect.fnUntraced(function* (
  res: ServerResponse,
  artifact: Artifact,
  blobKey: string,
  part: { readonly offset: number; readonly length: number },
  status: number,
  headers: Record<string, string>,
) {
  const { verifyReads } = yield* Settings
  yield* (yield* Gates).download(artifact.project)
  const reader = yield* (yield* BlobStore).read(blobKey, part)
  const verify =
    verifyReads && part.length === artifact.size
      ? { hash: (yield* ContentHasher).start(), sha256: artifact.sha256 }
      : undefined
  res.writeHead(status, headers)
  const sending = Effect.tryPromise({
    try: () => sendBytes(res, reader, part.length, verify),
    catch: (error) => error,
  })
  yield* Effect.catchAll(sending, (error) =>
    res.destroyed || error instanceof ReaderLeft
      ? Effect.interrupt
      : Effect.zipRight(
          Effect.logError(`reading artifact ${artifact.id} failed midway`, error),
          Effect.sync(() => {
            res.destroy()
            res.end()
          }),
        ),
  )
  return undefined
}, Effect.scoped)
