import { CreateBucketCommand } from "@aws-sdk/client-s3"
import { randomUUID } from "node:crypto"
import { Effect, Layer } from "effect"
import * as BlobStoreS3 from "../../layers/BlobStore/S3.ts"
import * as S3 from "../../layers/clients/S3.ts"
import type { S3Facts } from "../support/s3.ts"

const partBytes = 5 * 1024 * 1024

/** A BlobStore in a bucket of its own on the server, so that no other test's objects or uploads are in it. */
export const ownBucket = (facts: S3Facts, partsInFlight = 4) => {
  const bucket = `suite-${randomUUID()}`
  const created = Layer.effectDiscard(
    Effect.flatMap(S3.S3, ({ client }) =>
      Effect.promise(() => client.send(new CreateBucketCommand({ Bucket: bucket }))),
    ),
  )
  return BlobStoreS3.layer.pipe(
    Layer.provide(created),
    Layer.provideMerge(
      S3.layer({
        bucket,
        endpoint: facts.endpoint,
        region: facts.region,
        forcePathStyle: true,
        partBytes,
        partsInFlight,
        credentials: { accessKeyId: facts.accessKeyId, secretAccessKey: facts.secretAccessKey },
      }),
    ),
  )
}
