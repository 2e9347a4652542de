import { releaseBytes } from "../../src/domain/Bytes.ts"

/** What a small object's first buffer holds at least, and how much larger each next one is. */
const smallest = 4096
const growth = 4

/**
 * Buffers that bytes on their way are gathered in. Those given back are used again, so that transfers make no garbage of
 * them; a new one becomes resident only as far as it is filled. Past `mostIdle` bytes at rest, memory is given up.
 */
export class Buffers {
  readonly #mostIdle: number
  readonly #idle = new Map<number, Array<Buffer>>()
  #idleBytes = 0

  constructor(mostIdle: number) {
    this.#mostIdle = mostIdle
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
    if (this.#idleBytes + bytes > this.#mostIdle) return releaseBytes(buffer)
    this.#idleBytes += bytes
    const alike = this.#idle.get(bytes)
    if (alike === undefined) this.#idle.set(bytes, [buffer])
    else alike.push(buffer)
  }
}

/** The size of a buffer for so many bytes: one of few, so that buffers fit again, and `full` at the most. */
export const sizeFor = (bytes: number, full: number): number => {
  let size = smallest
  while (size < bytes && size < full) size *= growth
  return Math.min(size, full)
}

/**
 * How much memory one transfer may use when there are so many at the same time: `most` bytes, and halves of it down to
 * `least` so that together they stay within `all` for as long as that can be.
 */
export class FairShare {
  readonly #bounds: { readonly most: number; readonly least: number; readonly all: number }
  #open = 0

  constructor(bounds: { readonly most: number; readonly least: number; readonly all: number }) {
    this.#bounds = bounds
  }

  join(): void {
    this.#open++
  }

  leave(): void {
    this.#open--
  }

  each(): number {
    const { all, least, most } = this.#bounds
    let bytes = most
    while (bytes > least && bytes * this.#open > all) bytes /= 2
    return bytes
  }
}
