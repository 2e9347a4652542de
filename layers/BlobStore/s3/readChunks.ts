import type { Readable } from "node:stream"
import type { BlobReader } from "../../../services/BlobStore.ts"
import { releaseBytes } from "../../../src/domain/Bytes.ts"

/** A stream's chunks, one at a time as they came, read only when asked for; each gives its memory back at the next call. */
export const readChunks = (stream: Readable): BlobReader => {
  let waiting: { resolve: (chunk: Uint8Array | undefined) => void; reject: (error: unknown) => void } | undefined
  const came: Array<Uint8Array> = []
  let current: Uint8Array | undefined
  let ended = false
  let failure: unknown

  const answer = () => {
    if (waiting === undefined) return
    if (came.length === 0 && !ended && failure === undefined) return
    const { reject, resolve } = waiting
    waiting = undefined
    current = came.shift()
    if (current !== undefined || ended) resolve(current)
    else reject(failure)
  }
  stream.on("data", (chunk: Uint8Array) => {
    stream.pause()
    came.push(chunk)
    answer()
  })
  stream.on("end", () => {
    ended = true
    answer()
  })
  stream.on("error", (error) => {
    failure ??= error
    answer()
  })
  stream.on("close", () => {
    failure ??= new Error("the store's answer broke off")
    answer()
  })
  stream.pause()

  return {
    next: () => {
      if (current !== undefined) releaseBytes(current)
      current = undefined
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject }
        answer()
        if (waiting !== undefined) stream.resume()
      })
    },
  }
}
