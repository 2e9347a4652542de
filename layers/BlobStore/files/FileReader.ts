import type { BlobReader } from "../../../services/BlobStore.ts"
import { type Buffers, FairShare, sizeFor } from "../Buffers.ts"
import { readAt } from "./fileCalls.ts"
import type { OpenFile } from "./OpenFiles.ts"

/**
 * Read at once, in bytes: less with many readers, so that all of them together stay within a bound. Each read and each
 * write of what was read is a trip to another thread or to the kernel, which for 64 KiB costs more than the bytes do;
 * what is larger than this falls out of the processor's cache between the two.
 */
const share = new FairShare({ most: 512 * 1024, least: 64 * 1024, all: 16 * 1024 * 1024 })

/** A range of an open file, from which others may read too. */
export class FileReader implements BlobReader {
  readonly #file: OpenFile
  readonly #end: number
  readonly #buffers: Buffers
  #at: number
  /** Used again for each chunk, then given back; never after a failure, for a write of it may be under way. */
  #buffer: Buffer | undefined
  #reading: Promise<number> | undefined

  constructor(file: OpenFile, range: { readonly offset: number; readonly length: number }, buffers: Buffers) {
    share.join()
    this.#file = file
    this.#at = range.offset
    this.#end = range.offset + range.length
    this.#buffers = buffers
  }

  next = async (): Promise<Uint8Array | undefined> => {
    const left = this.#end - this.#at
    if (left <= 0) {
      if (this.#buffer !== undefined) this.#buffers.give(this.#buffer)
      this.#buffer = undefined
      return undefined
    }
    const buffer = (this.#buffer ??= this.#buffers.take(sizeFor(left, share.each())))
    this.#reading = readAt(this.#file.fd, buffer, Math.min(buffer.length, left), this.#at)
    const bytes = await this.#reading
    this.#reading = undefined
    if (bytes === 0) throw new Error("the file is shorter than the range")
    this.#at += bytes
    return buffer.subarray(0, bytes)
  }

  /** After a read that is under way: the number of a closed file may be another's at once. */
  close(): void {
    share.leave()
    if (this.#reading === undefined) return this.#file.leave()
    void this.#reading.catch(() => {}).then(this.#file.leave)
  }
}
