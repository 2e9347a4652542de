import { S3Client } from "@aws-sdk/client-s3"
import { Context, Effect, Layer } from "effect"

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

/** The process's S3 client, the one that signs for readers, and the bucket they mean. */
export class S3 extends Context.Tag("layers/clients/S3")<
  S3,
  { readonly client: S3Client; readonly signer: S3Client; readonly options: S3Options }
>() {}

const make = (options: S3Options) =>
  Effect.gen(function* () {
    const clientOf = (endpoint: string | undefined) =>
      Effect.acquireRelease(
        Effect.sync(
          () =>
            new S3Client({
              region: options.region,
              forcePathStyle: options.forcePathStyle,
              ...(endpoint !== undefined && { endpoint }),
              ...(options.credentials && { credentials: { ...options.credentials } }),
              // Content-MD5 and signed payloads are what every store enforces; the newer checksums are not.
              requestChecksumCalculation: "WHEN_REQUIRED",
              responseChecksumValidation: "WHEN_REQUIRED",
              maxAttempts: 3,
              requestHandler: {
                connectionTimeout: 2000,
                requestTimeout: 30_000,
                throwOnRequestTimeout: true,
                socketTimeout: 60_000,
                httpAgent: { maxSockets: 128 },
                httpsAgent: { maxSockets: 128 },
              },
            }),
        ),
        (client) => Effect.sync(() => client.destroy()),
      )
    const client = yield* clientOf(options.endpoint)
    const signer = options.publicEndpoint === undefined ? client : yield* clientOf(options.publicEndpoint)
    return S3.of({ client, signer, options })
  })

export const layer = (options: S3Options) => Layer.scoped(S3, make(options))
