import { describe, expect, inject, it } from "vitest"
import { blobStoreSuite } from "./BlobStore.ts"
import { ownBucket } from "./s3Bucket.ts"

// The stand-in does not heed what a signed URL asks for; the run against Ceph does.
const facts = inject("s3")

if (facts === null) describe("S3", () => it("is not here", () => expect(facts).toBeNull()))
else blobStoreSuite("S3", ownBucket(facts), { signsUrls: true })
