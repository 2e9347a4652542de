/** Bytes put together from the pieces in which they come. */
export interface Gathering {
  readonly add: (piece: Uint8Array) => void
  readonly size: () => number
  /** All so far, in memory that the next `add` may use. */
  readonly bytes: () => Buffer
}

/** Holds at most twice what came, however small the pieces are; an array of pieces of a byte holds 200 times as much. */
export const gathering = (): Gathering => {
  let held = Buffer.alloc(0)
  let size = 0
  return {
    add: (piece) => {
      if (size + piece.length > held.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(size + piece.length, 2 * held.length))
        held.copy(larger, 0, 0, size)
        held = larger
      }
      held.set(piece, size)
      size += piece.length
    },
    size: () => size,
    bytes: () => held.subarray(0, size),
  }
}

/** Below so many bytes the collector is cheaper. */
const worthwhile = 4096

/**
 * Gives the memory of bytes that nobody will look at again back at once: V8 lets tens of megabytes of buffers lie about
 * before it collects them. Only bytes that are all of their buffer go; what is a view of something larger is left alone.
 */
export const releaseBytes = ({ buffer, byteLength }: Uint8Array): void => {
  if (byteLength >= worthwhile && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0)
}
