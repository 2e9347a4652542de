import { HeadBucketCommand, S3Client, type S3ClientConfig, S3ServiceException } from "@aws-sdk/client-s3"
import { Context, Effect, Layer } from "effect"
import { Liveness, type NoAnswer } from "./Liveness.ts"
import { ReleasingAgent, ReleasingSecureAgent } from "./releasingAgents.ts"

export interface S3Options {
  readonly bucket: string
  readonly endpoint?: string | undefined
  readonly region: string
  readonly forcePathStyle: boolean
  /** How readers of presigned URLs reach the store, when it is not `endpoint`. */
  readonly publicEndpoint?: string | undefined
  /** Bytes of one part of a multipart upload; at least 5 MiB but for the last. */
  readonly partBytes: number
  /** How many parts of memory all uploads of this process share. */
  readonly partsInFlight: number
  /** Absent: the AWS credential chain. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined
}

/** How a client of ours connects. */
interface Connecting {
  readonly maxSockets: number
  /** How long a connection may be silent while a request is on it, in milliseconds; 0: for ever. */
  readonly socketTimeout: number
}

/** All but reading bodies: as many at once as parts are in flight, and small calls beside them. */
const calling: Connecting = { maxSockets: 128, socketTimeout: 60_000 }

/**
 * A body that is read has its connection for as long as its reader takes, which is silent while a slow one has enough: it
 * must not be taken from others. Who opens bodies limits their number, and ends those that wait for the store.
 */
const reading: Connecting = { maxSockets: Number.POSITIVE_INFINITY, socketTimeout: 0 }

const common = (options: S3Options, endpoint: string | undefined): S3ClientConfig => ({
  region: options.region,
  forcePathStyle: options.forcePathStyle,
  ...(endpoint !== undefined && { endpoint }),
  ...(options.credentials && { credentials: { ...options.credentials } }),
  // Signed payloads are what every store enforces; the newer checksums are not, and would be a second pass over the bytes.
  requestChecksumCalculation: "WHEN_REQUIRED",
  responseChecksumValidation: "WHEN_REQUIRED",
})

/** The process's S3 clients, the one that signs for readers, and the bucket they mean. */
export class S3 extends Context.Tag("layers/clients/S3")<
  S3,
  {
    /** For everything but bodies of artifacts. */
    readonly client: S3Client
    /** For bodies of artifacts, over connections of its own: readers that stall take none from who writes. */
    readonly reader: S3Client
    readonly signer: S3Client
    /** Whether the store lives, for who waits for a body. */
    readonly liveness: Liveness
    readonly options: S3Options
  }
>() {}

/** Any answer is a sign of life, one that refuses too. Its own connection, for all others may be waiting. */
const pinger = (options: S3Options) => {
  const client = new S3Client({
    ...common(options, options.endpoint),
    maxAttempts: 1,
    requestHandler: { httpAgent: { keepAlive: false }, httpsAgent: { keepAlive: false } },
  })
  const ping = (abortSignal: AbortSignal) =>
    client.send(new HeadBucketCommand({ Bucket: options.bucket }), { abortSignal }).then(
      () => {},
      (error: unknown) => {
        if (!(error instanceof S3ServiceException)) throw error
      },
    )
  return { client, liveness: new Liveness("The blob store", ping) }
}

/**
 * A client whose requests fail within two seconds, retries included, when the store is away, and at once when it is known
 * to be; one that is slow, as a large part on a slow line is, goes on for as long as the store lives.
 */
class ImpatientS3 extends S3Client {
  readonly #liveness: Liveness

  constructor(options: S3Options, liveness: Liveness, { maxSockets, socketTimeout }: Connecting) {
    super({
      ...common(options, options.endpoint),
      maxAttempts: 3,
      // Over an agent that is not its own the SDK would send "Expect: 100-continue" and not wait for the answer.
      expectContinueHeader: false,
      requestHandler: {
        connectionTimeout: 2000,
        requestTimeout: 30_000,
        throwOnRequestTimeout: true,
        socketTimeout,
        httpAgent: new ReleasingAgent({ keepAlive: true, maxSockets }),
        httpsAgent: new ReleasingSecureAgent({ keepAlive: true, maxSockets }),
      },
    })
    this.#liveness = liveness
  }

  // All overloads of the client's; promises are the only ones used here.
  override send = (async (
    command: Parameters<S3Client["send"]>[0],
    options?: { readonly abortSignal?: AbortSignal },
  ) => {
    if (this.#liveness.away) throw this.#liveness.noAnswer()
    const giveUp = new AbortController()
    const abort = () => giveUp.abort()
    let lost: NoAnswer | undefined
    options?.abortSignal?.addEventListener("abort", abort)
    if (options?.abortSignal?.aborted === true) abort()
    try {
      const sent = super.send(command, { ...options, abortSignal: giveUp.signal })
      const answer = await this.#liveness.guard(sent, (cause) => {
        lost = cause
        abort()
      })
      this.#liveness.alive()
      return answer
    } catch (error) {
      if (error instanceof S3ServiceException) this.#liveness.alive()
      throw lost ?? error
    } finally {
      options?.abortSignal?.removeEventListener("abort", abort)
    }
  }) as S3Client["send"]
}

const make = (options: S3Options) =>
  Effect.gen(function* () {
    const destroyed = <C extends S3Client>(client: C) => Effect.sync(() => client.destroy())
    const { liveness } = yield* Effect.acquireRelease(
      Effect.sync(() => pinger(options)),
      ({ client, liveness }) =>
        Effect.zipRight(
          Effect.sync(() => liveness.close()),
          destroyed(client),
        ),
    )
    const connected = (how: Connecting) =>
      Effect.acquireRelease(
        Effect.sync(() => new ImpatientS3(options, liveness, how)),
        destroyed,
      )
    const client = yield* connected(calling)
    const reader = yield* connected(reading)
    const { publicEndpoint } = options
    const signer =
      publicEndpoint === undefined
        ? client
        : yield* Effect.acquireRelease(
            Effect.sync(() => new S3Client(common(options, publicEndpoint))),
            destroyed,
          )
    return S3.of({ client, reader, signer, liveness, options })
  })

export const layer = (options: S3Options) => Layer.scoped(S3, make(options))
