import type { ServerResponse } from "node:http"
import type { BlobReader } from "../../../services/BlobStore.ts"
import type { RunningHash } from "../../../services/ContentHasher.ts"
import { bytesSent, moved, openDownloads } from "../../telemetry/Transfers.ts"

/** The bytes that came out of the store are not those that went in. */
export class WrongBytes extends Error {
  override readonly name = "WrongBytes"
}

/** The client closed its connection before it had all of the bytes: no fault of the node's. */
export class ReaderLeft extends Error {
  override readonly name = "ReaderLeft"
}

/** Writes chunk by chunk; each resolves once the system has it, and rejects when the client goes away. */
const writer = (res: ServerResponse) => {
  let giveUp: ((error: Error) => void) | undefined
  const onClose = () => giveUp?.(new ReaderLeft())
  res.once("close", onClose)
  return {
    write: (chunk: Uint8Array, last: boolean): Promise<void> =>
      new Promise((resolve, reject) => {
        giveUp = reject
        if (res.destroyed) return onClose()
        const done = (error?: Error | null) => {
          giveUp = undefined
          // The socket's own word (ECANCELED, EPIPE, ECONNRESET) may come before the response knows that it is closed.
          if (error) reject(new ReaderLeft(undefined, { cause: error }))
          else resolve()
        }
        if (last) res.end(chunk, () => done())
        else res.write(chunk, done)
      }),
    over: () => void res.off("close", onClose),
  }
}

/**
 * Sends exactly `length` bytes and ends the response, or rejects with the response unended, so that it cannot pass
 * for a whole one. Plain Node, one chunk in flight: a chunk is handed back to the reader only once it was written.
 * With `verify` the last chunk is held until the digest of all of them is the expected one.
 */
export const sendBytes = async (
  res: ServerResponse,
  reader: BlobReader,
  length: number,
  verify: { readonly hash: RunningHash; readonly sha256: string } | undefined,
): Promise<void> => {
  let sent = 0
  moved(openDownloads, 1)
  const { over, write } = writer(res)
  try {
    while (sent < length) {
      const chunk = await reader.next()
      if (chunk === undefined) throw new WrongBytes(`the store ended after ${sent} of ${length} bytes`)
      if (chunk.length === 0) continue
      sent += chunk.length
      if (sent > length) throw new WrongBytes(`the store gave more than ${length} bytes`)
      verify?.hash.update(chunk)
      const last = sent === length
      if (last && verify !== undefined && verify.hash.digest().sha256 !== verify.sha256)
        throw new WrongBytes("the bytes do not match their SHA-256")
      await write(chunk, last)
      bytesSent(chunk.length)
    }
    if (length === 0) res.end()
    // Hands the last chunk back too.
    else reader.next().catch(() => {})
  } finally {
    over()
    moved(openDownloads, -1)
  }
}
