import { IncomingMessage } from "node:http"

/** Chunks of fewer bytes are small. */
const smallBytes = 1024
/** A read of a socket with fewer of them is not counted. */
const free = 64
/** How many of the counted ones a node takes in a second, of all clients together. */
const perSecond = 100_000
/** How much of them is kept together at the most. Bytes. */
const gatherBytes = 16 * 1024

/**
 * Requests as a node reads them, for `createServer`. Node's parser calls back for each chunk of a body, which costs 1.5 µs
 * however little is in it. One read of 64 KiB may hold 10,000 chunks of one byte.
 *
 * So the small chunks of a read are handed on together, and a connection whose read held many rests: it is not read
 * again, and its body does not end. Connections rest one after the other, in the order in which their reads came.
 */
export const pacedMessages = (): typeof IncomingMessage => {
  /** When all small chunks that were read will have had their time, by `performance.now()`. */
  let doneAt = 0
  return class extends IncomingMessage {
    #gathered: Buffer | undefined
    #bytes = 0
    /** Small chunks of this turn of the event loop. */
    #count = 0
    #resting = false
    /** What waits until the rest is over: the next read, and the end. */
    #asked = false
    #ended = false

    #flush() {
      if (this.#gathered === undefined) return
      // A copy of its size: who keeps it shall not keep the whole.
      const bytes = Buffer.from(this.#gathered.subarray(0, this.#bytes))
      this.#gathered = undefined
      super.push(bytes)
    }

    #endOfTurn() {
      const count = this.#count
      this.#count = 0
      if (this.destroyed) return
      if (count >= free) this.#rest(count)
      this.#flush()
    }

    #rest(count: number) {
      this.#resting = true
      const now = performance.now()
      doneAt = Math.max(now, doneAt) + (count * 1000) / perSecond
      setTimeout(() => this.#goOn(), doneAt - now)
    }

    #goOn() {
      this.#resting = false
      if (this.destroyed) return
      if (this.#ended) super.push(null)
      if (this.#asked) super._read(0)
      this.#asked = false
    }

    /** False: read no more of this socket until asked. */
    override push(chunk: Buffer | null, encoding?: BufferEncoding): boolean {
      if (chunk === null && (this.#resting || this.#count >= free)) {
        this.#ended = true
        return false
      }
      if (chunk === null || chunk.length >= smallBytes) {
        this.#flush()
        return super.push(chunk, encoding) && this.#count < free
      }
      if (this.#count++ === 0) setImmediate(() => this.#endOfTurn())
      if (this.#gathered !== undefined && this.#bytes + chunk.length > gatherBytes) this.#flush()
      if (this.#gathered === undefined) {
        this.#gathered = Buffer.allocUnsafe(gatherBytes)
        this.#bytes = 0
      }
      this.#bytes += chunk.copy(this.#gathered, this.#bytes)
      return this.#count < free
    }

    override _read(size: number) {
      if (this.#resting) this.#asked = true
      else super._read(size)
    }
  }
}
