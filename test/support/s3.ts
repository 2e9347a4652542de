import { startFauxqs } from "fauxqs"
import { listingUploads } from "./s3Uploads.ts"

/** What a client needs to know of an S3 server with one bucket; JSON-able. */
export interface S3Facts {
  readonly endpoint: string
  readonly bucket: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

export interface S3Server extends S3Facts {
  stop(): Promise<void>
}

/**
 * An S3 stand-in in this process. It stores bytes well, and checks neither credentials nor expiry nor checksums nor
 * conditions: what depends on those is tested against Ceph.
 */
export const startS3StandIn = async (bucket = "artifacts"): Promise<S3Server> => {
  const region = "us-east-1"
  const server = await startFauxqs({ host: "127.0.0.1", port: 0, logger: false, defaultRegion: region })
  server.createBucket(bucket)
  const front = await listingUploads(server.port)
  return {
    endpoint: `http://127.0.0.1:${front.port}`,
    bucket,
    region,
    accessKeyId: "test-access-key",
    secretAccessKey: "test-secret-key",
    stop: async () => {
      await front.close()
      await server.stop()
    },
  }
}

/** The node's configuration for such a server. */
export const s3Environment = (server: S3Facts) => ({
  S3_BUCKET: server.bucket,
  S3_ENDPOINT: server.endpoint,
  S3_REGION: server.region,
  S3_FORCE_PATH_STYLE: "true",
  AWS_ACCESS_KEY_ID: server.accessKeyId,
  AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
})

export const s3Facts = (server: S3Facts): S3Facts => ({
  endpoint: server.endpoint,
  bucket: server.bucket,
  region: server.region,
  accessKeyId: server.accessKeyId,
  secretAccessKey: server.secretAccessKey,
})
