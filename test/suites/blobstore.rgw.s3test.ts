import type { S3Facts } from "../support/s3.ts"
import { blobStoreSuite } from "./BlobStore.ts"
import { ownBucket } from "./s3Bucket.ts"

const text = process.env["S3_FACTS"]
if (text === undefined) throw new Error("S3_FACTS is to hold the server's facts as JSON")

blobStoreSuite("Ceph RGW", ownBucket(JSON.parse(text) as S3Facts), {
  signsUrls: true,
  heedsUrls: true,
})
