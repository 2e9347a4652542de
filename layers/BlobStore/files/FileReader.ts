import type { BlobReader } from "../../../services/BlobStore.ts"
import { closeSoon, readAt } from "./fileCalls.ts"

/** Read at once, in bytes; the buffer of a reader is used again for each chunk. */
const readSize = 256 * 1024

/** A range of an open file. */
export class FileReader implements BlobReader {
  readonly #fd: number
  readonly #end: number
  readonly #buffer: Buffer
  #at: number
  #reading: Promise<number> | undefined

  constructor(fd: number, range: { readonly offset: number; readonly length: number }) {
    this.#fd = fd
    this.#at = range.offset
    this.#end = range.offset + range.length
    this.#buffer = Buffer.allocUnsafe(Math.min(readSize, range.length))
  }

  next = async (): Promise<Uint8Array | undefined> => {
    if (this.#at >= this.#end) return undefined
    this.#reading = readAt(this.#fd, this.#buffer, Math.min(this.#buffer.length, this.#end - this.#at), this.#at)
    const bytes = await this.#reading
    this.#reading = undefined
    if (bytes === 0) throw new Error("the file is shorter than the range")
    this.#at += bytes
    return this.#buffer.subarray(0, bytes)
  }

  /** After a read that is under way: the number of a closed file may be another's at once. */
  close(): void {
    if (this.#reading === undefined) return closeSoon(this.#fd)
    void this.#reading.catch(() => {}).then(() => closeSoon(this.#fd))
  }
}
