import { layer } from "../../layers/BlobStore/Memory.ts"
import { blobStoreSuite } from "./BlobStore.ts"

blobStoreSuite("Memory", layer, { signsUrls: false, readersOutliveRemoval: true })
