import { Effect } from "effect"
import type { Artifact } from "../domain/Artifact.ts"
import { isMediaType, unknownMediaType } from "../domain/MediaType.ts"
import { ContentHasher, type Digest } from "../../services/ContentHasher.ts"
import { acceptField, type Fields } from "./Fields.ts"
import type { FilePartInfo, FileSink, Receive } from "./Receive.ts"
import {
  BadRequest,
  ClientGone,
  DigestMismatch,
  IdempotencyKeyConflict,
  LineageNotAllowed,
  SizeMismatch,
  UnknownField,
  UploadStalled,
  UploadTooSlow,
  PayloadTooLarge,
} from "./Refusals.ts"
import { LeaseInvalid, LeaseLost } from "../domain/Claim.ts"
import { ProjectNotFound } from "../domain/Project.ts"
import { QuotaExceeded } from "../domain/Quota.ts"
import { Unauthorized } from "../../services/Authenticator.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { UploadFenced, UploadSuperseded } from "../../services/MetadataStore.ts"
import { traced } from "../telemetry/Spans.ts"

/** A body read to its end, and what its file turned out to be. */
export interface Received {
  readonly name: string
  readonly mime: string
  readonly metadata: NonNullable<Fields["metadata"]>
  readonly digest: Digest
}

const refusals = [
  BadRequest,
  UnknownField,
  LineageNotAllowed,
  SizeMismatch,
  DigestMismatch,
  PayloadTooLarge,
  IdempotencyKeyConflict,
  UploadStalled,
  UploadTooSlow,
  ClientGone,
  LeaseLost,
  LeaseInvalid,
  Unauthorized,
  QuotaExceeded,
  ProjectNotFound,
  DependencyUnavailable,
  UploadFenced,
  UploadSuperseded,
] as const
type Refusal = InstanceType<(typeof refusals)[number]>

const isRefusal = (error: unknown): error is Refusal => refusals.some((refusal) => error instanceof refusal)

/**
 * Reads the whole body: fields are judged as they come, the file goes through the hash into `openSink`'s sink. The
 * body's own claims about size and digest are held against what came. Aborting `stop` ends the reading.
 */
export const receiveBody = traced("ContentHasher.receive")(function* (
  receive: Receive,
  openSink: (fields: Readonly<Fields>) => Promise<FileSink>,
  stop: AbortController,
) {
  const hash = (yield* ContentHasher).start()
  const fields: Fields = {}
  let file: FilePartInfo | undefined
  const overrun = (size: number) => {
    if (fields.size !== undefined && size > fields.size) throw new SizeMismatch({ expected: fields.size, actual: size })
  }
  yield* Effect.async<void, Refusal>((resume) => {
    const failed = (error: unknown) => resume(isRefusal(error) ? Effect.fail(error) : Effect.die(error))
    try {
      receive(
        {
          onField: (name, value) => acceptField(fields, name, value),
          onFile: async (info) => {
            if (info.contentType !== undefined && !isMediaType(info.contentType))
              throw new BadRequest({ message: 'The Content-Type of the part "file" is not a media type.' })
            file = info
            const sink = await openSink(fields)
            return {
              write: (chunk) => {
                hash.update(chunk)
                overrun(hash.size())
                return sink.write(chunk)
              },
            }
          },
        },
        stop.signal,
      ).then(() => resume(Effect.void), failed)
    } catch (error) {
      failed(error)
    }
    return Effect.sync(() => stop.abort())
  })

  if (file === undefined) return yield* new BadRequest({ message: 'The body has no part "file".' })
  if (fields.name === undefined) return yield* new BadRequest({ message: 'The body has no part "name".' })
  const digest = hash.digest()
  if (fields.size !== undefined && fields.size !== digest.size)
    return yield* new SizeMismatch({ expected: fields.size, actual: digest.size })
  if (fields.sha256 !== undefined && fields.sha256 !== digest.sha256)
    return yield* new DigestMismatch({ expected: fields.sha256, actual: digest.sha256 })
  const received: Received = {
    name: fields.name,
    mime: fields.mime ?? file.contentType ?? unknownMediaType,
    metadata: fields.metadata ?? {},
    digest,
  }
  return received
})

/** Reads a body that was answered once already, stores none of it, and compares it with what was made then. */
export const compareReplay = traced("publish.replay")(function* (
  receive: Receive,
  earlier: Artifact,
  stop: AbortController,
) {
  let size = 0
  const openSink = async (): Promise<FileSink> => ({
    write: (chunk) => {
      size += chunk.length
      if (size > earlier.size) throw new IdempotencyKeyConflict()
      return undefined
    },
  })
  const received = yield* receiveBody(receive, openSink, stop)
  const same =
    received.name === earlier.name && received.digest.size === earlier.size && received.digest.sha256 === earlier.sha256
  return same ? earlier : yield* new IdempotencyKeyConflict()
})
