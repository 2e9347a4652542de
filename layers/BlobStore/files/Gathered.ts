/** Below so many bytes a chunk is copied: an array entry and its buffer would cost more than the bytes in it. */
const small = 4096
const firstSlab = 4096
const largestSlab = 65_536

/** Bytes waiting to be written together. Small chunks share slabs, so that the memory held follows the bytes alone. */
export class Gathered {
  #chunks: Array<Uint8Array> = []
  #bytes = 0
  #slab: Uint8Array | undefined
  /** What of the slab is in `#chunks` already, and what is filled. */
  #from = 0
  #filled = 0
  #nextSlab = firstSlab

  get bytes(): number {
    return this.#bytes
  }

  add(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#bytes += chunk.length
    if (chunk.length >= small) {
      this.#seal()
      this.#chunks.push(chunk)
      return
    }
    if (this.#slab === undefined || this.#slab.length - this.#filled < chunk.length) {
      this.#seal()
      this.#slab = new Uint8Array(this.#nextSlab)
      this.#nextSlab = Math.min(this.#nextSlab * 4, largestSlab)
      this.#from = 0
      this.#filled = 0
    }
    this.#slab.set(chunk, this.#filled)
    this.#filled += chunk.length
  }

  #seal(): void {
    if (this.#slab === undefined || this.#filled === this.#from) return
    this.#chunks.push(this.#slab.subarray(this.#from, this.#filled))
    this.#from = this.#filled
  }

  /** All of it, in order; what comes later is gathered anew. */
  takeAll(): Array<Uint8Array> {
    this.#seal()
    const chunks = this.#chunks
    this.#chunks = []
    this.#bytes = 0
    return chunks
  }

  clear(): void {
    this.takeAll()
    this.#slab = undefined
  }
}
