import { Layer } from "effect"
import { createHash } from "node:crypto"
import { ContentHasher } from "../../services/ContentHasher.ts"
import { Sha256 } from "../../src/domain/Ids.ts"

const start = () => {
  const hash = createHash("sha256")
  let size = 0
  return {
    update: (chunk: Uint8Array) => {
      hash.update(chunk)
      size += chunk.byteLength
    },
    size: () => size,
    digest: () => ({ sha256: Sha256.make(hash.digest("hex")), size }),
  }
}

/** OpenSSL's SHA-256, on the thread that moves the bytes: a worker would cost a copy and win nothing. */
export const layer = Layer.succeed(ContentHasher, { start })
