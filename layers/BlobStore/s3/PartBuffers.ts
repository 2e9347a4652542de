/**
 * Buffers for parts, and smaller ones for what is less than a part. Those given back are used again, so that transfers
 * make no garbage of them; a new one becomes resident only as far as it is filled. What lies idle is no more than a part.
 */
export class PartBuffers {
  /** Of a whole part, in bytes. */
  readonly partBytes: number
  readonly #idle = new Map<number, Array<Buffer>>()
  #idleBytes = 0

  constructor(partBytes: number) {
    this.partBytes = partBytes
  }

  take(bytes: number): Buffer {
    const buffer = this.#idle.get(bytes)?.pop()
    if (buffer === undefined) return Buffer.allocUnsafeSlow(bytes)
    this.#idleBytes -= bytes
    return buffer
  }

  /** Nobody may read or write it any longer. */
  give(buffer: Buffer): void {
    const bytes = buffer.length
    if (this.#idleBytes + bytes > this.partBytes) return
    this.#idleBytes += bytes
    const alike = this.#idle.get(bytes)
    if (alike === undefined) this.#idle.set(bytes, [buffer])
    else alike.push(buffer)
  }
}
