import { ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3"
import { blobFiles } from "../../support/blobFiles.ts"
import { startRgw } from "../../support/rgw.ts"
import { s3Environment, type S3Server, startS3StandIn } from "../../support/s3.ts"

/** Where the pods of a cluster keep their bytes, and what is in it. */
export interface Store {
  readonly description: string
  /** What the pods must be told of it. */
  readonly env: Readonly<Record<string, string>>
  /** Every object, and every unfinished write. */
  contents(): Promise<ReadonlyArray<string>>
  dispose(): Promise<void>
}

export const storeKinds = ["files", "s3", "rgw"] as const
export type StoreKind = (typeof storeKinds)[number]

/** Where in a bucket the nodes keep objects; what stands elsewhere tells them whose bucket it is. */
const prefix = "artifacts/"

const overS3 = (description: string, server: S3Server): Store => {
  const client = new S3Client({
    endpoint: server.endpoint,
    region: server.region,
    forcePathStyle: true,
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
  })
  return {
    description,
    env: s3Environment(server),
    contents: async () => {
      const keys: Array<string> = []
      let token: string | undefined
      do {
        const page = await client.send(
          new ListObjectsV2Command({ Bucket: server.bucket, Prefix: prefix, ContinuationToken: token }),
        )
        keys.push(...(page.Contents ?? []).map(({ Key }) => Key?.slice(prefix.length) ?? ""))
        token = page.NextContinuationToken
      } while (token !== undefined)
      const unfinished = await client.send(new ListMultipartUploadsCommand({ Bucket: server.bucket }))
      return [...keys, ...(unfinished.Uploads ?? []).map(({ Key }) => `unfinished ${Key}`)]
    },
    dispose: async () => {
      client.destroy()
      await server.stop()
    },
  }
}

export const startStore = async (kind: StoreKind, dataDir: string): Promise<Store> => {
  if (kind === "s3") return overS3("an S3 stand-in", await startS3StandIn())
  if (kind === "rgw") return overS3("Ceph RGW", await startRgw())
  return {
    description: "files in a shared folder",
    env: {},
    contents: async () => blobFiles(dataDir),
    dispose: async () => {},
  }
}
