import { randomUUID } from "node:crypto"
import { unlink } from "node:fs/promises"
import { join } from "node:path"
import { type Buffers, FairShare, sizeFor } from "../Buffers.ts"
import { close, closeNow, move, openFile, syncData, write } from "./fileCalls.ts"
import type { Folders } from "./Folders.ts"

/**
 * Bytes gathered before they are written: fewer with many files at once, so that all of them together stay within a
 * bound. As many again may be on their way to the disk meanwhile.
 */
const share = new FairShare({ most: 256 * 1024, least: 64 * 1024, all: 8 * 1024 * 1024 })

/**
 * So many bytes are synced while more come, or a large file's last sync would have all of it to write. One file at a
 * time does so in the whole process: syncs take long and hold a thread that small files wait for.
 */
const syncEvery = 16 * 1024 * 1024
let syncingAhead = false

/**
 * One file on its way: gathered, written by one write at a time, renamed to its final name, synced. Opened at
 * the first write to the disk, which for a small file is its only one.
 */
export class FileWriter {
  readonly #target: string
  readonly #draft: string
  readonly #buffers: Buffers
  readonly #folders: Folders
  #fd: number | undefined
  /** What gathers: as large as the bytes need, until it holds `#full`. */
  #buffer: Buffer | undefined
  #full = 0
  #filled = 0
  #size = 0
  #flushing: Promise<void> | undefined
  /** Bytes written since a sync began last, and the one that goes on while more are written. */
  #unsynced = 0
  #syncing: Promise<void> | undefined
  #failure: unknown
  /** Whether the file has its final name; it is an object only once it is durable too. */
  #moved = false

  constructor(temporaryFolder: string, target: string, name: string, folders: Folders, buffers: Buffers) {
    share.join()
    this.#folders = folders
    this.#target = target
    this.#buffers = buffers
    this.#draft = join(temporaryFolder, `${name}.${randomUUID()}`)
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#size
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    this.#size += chunk.length
    return this.#add(chunk)
  }

  #add(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    for (let at = 0; at < chunk.length;) {
      if (this.#isFull()) {
        if (this.#flushing !== undefined) return this.#flushing.then(() => this.#add(chunk.subarray(at)))
        this.#startFlush()
      }
      const buffer = this.#roomFor(chunk.length - at)
      const taken = Math.min(chunk.length - at, buffer.length - this.#filled)
      buffer.set(chunk.subarray(at, at + taken), this.#filled)
      at += taken
      this.#filled += taken
    }
    if (this.#isFull() && this.#flushing === undefined) this.#startFlush()
    return undefined
  }

  #isFull(): boolean {
    return this.#buffer !== undefined && this.#filled === this.#full
  }

  /** The buffer with room for so many bytes, or as large as it may get. */
  #roomFor(bytes: number): Buffer {
    const before = this.#buffer
    if (before !== undefined && (before.length === this.#full || before.length - this.#filled >= bytes)) return before
    if (before === undefined) this.#full = share.each()
    const buffer = this.#buffers.take(sizeFor(this.#filled + bytes, this.#full))
    this.#buffer = buffer
    if (before !== undefined) {
      buffer.set(before.subarray(0, this.#filled))
      this.#buffers.give(before)
    }
    return buffer
  }

  #startFlush(): void {
    const flushing = this.#flush().finally(() => {
      this.#flushing = undefined
    })
    this.#flushing = flushing
    flushing.catch((error: unknown) => {
      this.#failure = error
    })
  }

  async #flush(): Promise<void> {
    const buffer = this.#buffer
    const bytes = this.#filled
    this.#buffer = undefined
    this.#filled = 0
    try {
      const fd = (this.#fd ??= await openFile(this.#draft, "wx", 0o640))
      for (let at = 0; buffer !== undefined && at < bytes;) at += await write(fd, buffer, at, bytes - at)
      this.#unsynced += bytes
      if (this.#unsynced >= syncEvery && !syncingAhead) this.#syncAhead(fd)
    } finally {
      if (buffer !== undefined) this.#buffers.give(buffer)
    }
  }

  #syncAhead(fd: number): void {
    syncingAhead = true
    this.#unsynced = 0
    this.#syncing = syncData(fd)
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => {
        syncingAhead = false
      })
  }

  /** The file stands durable under its name when this resolves. */
  async finish(): Promise<void> {
    await this.#flushing
    if (this.#failure !== undefined) throw this.#failure
    await this.#flush()
    await this.#syncing
    if (this.#failure !== undefined) throw this.#failure
    const fd = this.#fd
    await move(this.#draft, this.#target)
    this.#moved = true
    // Two waits for the same turn of the file system's journal, when they wait at the same time.
    await Promise.all([fd === undefined ? undefined : syncData(fd), this.#folders.sync(this.#target)])
    if (fd !== undefined) closeNow(fd)
    this.#fd = undefined
    share.leave()
  }

  /** Leaves nothing behind; to be called unless `finish` resolved. */
  async discard(): Promise<void> {
    share.leave()
    this.#failure ??= new Error("the write was given up")
    await this.#flushing?.catch(() => {})
    await this.#syncing
    if (this.#buffer !== undefined) this.#buffers.give(this.#buffer)
    this.#buffer = undefined
    if (this.#fd !== undefined) await close(this.#fd).catch(() => {})
    await unlink(this.#moved ? this.#target : this.#draft).catch(() => {})
  }
}
