import type { Readable } from "node:stream"
import type { BlobReader } from "../../../services/BlobStore.ts"
import { releaseBytes } from "../../../src/domain/Bytes.ts"
import { type Buffers, FairShare, sizeFor } from "../Buffers.ts"

/** Bytes handed on at once. A reader holds three times as many: what is handed on, what is next, and what comes. */
const share = new FairShare({ most: 256 * 1024, least: 32 * 1024, all: 8 * 1024 * 1024 })

/** How long the store may send nothing while somebody waits for it, in milliseconds; while nobody does, it is paused. */
const silentMillis = 60_000

/**
 * The store's answer, gathered: it comes in pieces of a socket's read, each of which would be a trip of its own to the
 * client. Comes while what came before is being sent; waits once two lots of it do.
 */
export class GatheringReader implements BlobReader {
  readonly #stream: Readable
  readonly #buffers: Buffers
  /** Bytes that are still to come. */
  #left: number
  #filling: Buffer | undefined
  #filled = 0
  readonly #ready: Array<Buffer> = []
  #current: Buffer | undefined
  #waiting: { resolve: (chunk: Uint8Array | undefined) => void; reject: (error: unknown) => void } | undefined
  #silence: NodeJS.Timeout | undefined
  #failure: unknown

  constructor(stream: Readable, length: number, buffers: Buffers) {
    this.#stream = stream
    this.#left = length
    this.#buffers = buffers
    share.join()
    stream.on("data", this.#take)
    stream.on("error", this.#fail)
    stream.on("close", () => this.#fail(new Error("the store's answer broke off")))
  }

  /** Whether `next` has its answer already. */
  get atHand(): boolean {
    return this.#ready.length > 0 || this.#left === 0
  }

  next = (): Promise<Uint8Array | undefined> => {
    if (this.#current !== undefined) this.#buffers.give(whole(this.#current))
    this.#current = undefined
    if (this.#stream.isPaused()) this.#stream.resume()
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#answer()
      if (this.#waiting !== undefined)
        this.#silence = setTimeout(() => this.giveUp(new Error("the store sent nothing for a minute")), silentMillis)
    })
  }

  giveUp(cause: Error): void {
    this.#stream.destroy(cause)
  }

  close(): void {
    share.leave()
    this.#stopWaiting()
    this.#stream.destroy()
  }

  readonly #take = (chunk: Buffer): void => {
    if (chunk.length > this.#left) return this.#fail(new Error("the store gave more than was asked for"))
    this.#left -= chunk.length
    this.#silence?.refresh()
    for (let at = 0; at < chunk.length;) {
      this.#filling ??= this.#buffers.take(sizeFor(chunk.length - at + this.#left, share.each()))
      const taken = Math.min(chunk.length - at, this.#filling.length - this.#filled)
      this.#filling.set(chunk.subarray(at, at + taken), this.#filled)
      this.#filled += taken
      at += taken
      if (this.#filled === this.#filling.length) this.#push(this.#filling)
    }
    if (this.#left === 0 && this.#filling !== undefined) this.#push(this.#filling)
    releaseBytes(chunk)
    if (this.#ready.length > 1) this.#stream.pause()
    this.#answer()
  }

  #push(buffer: Buffer): void {
    this.#ready.push(buffer.subarray(0, this.#filled))
    this.#filling = undefined
    this.#filled = 0
  }

  readonly #fail = (error: unknown): void => {
    if (this.#left > 0 || this.#failure !== undefined) this.#failure ??= error
    this.#answer()
  }

  #stopWaiting(): void {
    this.#waiting = undefined
    clearTimeout(this.#silence)
    this.#silence = undefined
  }

  #answer(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    const chunk = this.#ready.shift()
    if (chunk === undefined && this.#left > 0 && this.#failure === undefined) return
    this.#stopWaiting()
    this.#current = chunk
    if (chunk === undefined && this.#failure !== undefined) waiting.reject(this.#failure)
    else waiting.resolve(chunk)
  }
}

/** The buffer of which this is the beginning. */
const whole = (part: Buffer): Buffer => Buffer.from(part.buffer, part.byteOffset)
