import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer } from "effect"
import * as FileSystem from "../../layers/BlobStore/FileSystem.ts"
import { blobStoreSuite } from "./BlobStore.ts"

const temporary = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "blobs-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true })),
)

blobStoreSuite(
  "FileSystem",
  Layer.unwrapScoped(Effect.map(temporary, (directory) => FileSystem.layer({ directory }))),
  { signsUrls: false, readersOutliveRemoval: true },
)
