import { randomBytes } from "node:crypto"
import { type FileHandle, mkdir, open, rename, unlink } from "node:fs/promises"
import { dirname, join } from "node:path"
import { type Buffers, sizeFor } from "../Buffers.ts"

/**
 * Bytes gathered before they are written: fewer with many files at once, so that all of them together stay within a
 * bound. As many again may be on their way to the disk meanwhile.
 */
const mostGathered = 256 * 1024
const leastGathered = 64 * 1024
const gatheredByAll = 8 * 1024 * 1024
/** Those neither finished nor discarded. */
let openWriters = 0
const gather = (): number => {
  let bytes = mostGathered
  while (bytes > leastGathered && bytes * openWriters > gatheredByAll) bytes /= 2
  return bytes
}

/** Makes names in a folder durable: POSIX promises a rename only after the folder itself was synced. */
export const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder and its parents, each durable in the folder above it. */
export const makeFolder = async (folder: string): Promise<void> => {
  const first = await mkdir(folder, { recursive: true })
  if (first === undefined) return
  for (let made = folder; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
}

/** The folders this process knows to be durable, or is making so: a file in a folder is no safer than the folder. */
const durable = new Map<string, Promise<void>>()

/** Makes a folder in another and syncs that one, once in a process: whoever made the folder may not have got so far. */
const ensureFolder = (folder: string): Promise<void> => {
  let ensured = durable.get(folder)
  if (ensured === undefined) {
    ensured = mkdir(folder)
      .catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error
      })
      .then(() => syncFolder(dirname(folder)))
    durable.set(folder, ensured)
    ensured.catch(() => durable.delete(folder))
  }
  return ensured
}

/** The two levels of folders that objects are spread over. */
const ensureSpread = async (folder: string): Promise<void> => {
  await ensureFolder(dirname(folder))
  await ensureFolder(folder)
}

/**
 * One file on its way: gathered, written by one write at a time, synced, then renamed to its final name. Opened at
 * the first write to the disk, which for a small file is its only one.
 */
export class FileWriter {
  readonly #target: string
  readonly #draft: string
  readonly #buffers: Buffers
  #handle: FileHandle | undefined
  /** What gathers: as large as the bytes need, until it holds `#full`. */
  #buffer: Buffer | undefined
  #full = 0
  #filled = 0
  #size = 0
  #flushing: Promise<void> | undefined
  #failure: unknown

  constructor(temporaryFolder: string, target: string, name: string, buffers: Buffers) {
    openWriters++
    this.#target = target
    this.#buffers = buffers
    this.#draft = join(temporaryFolder, `${name}.${randomBytes(6).toString("hex")}`)
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
    if (before === undefined) this.#full = gather()
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
      const handle = (this.#handle ??= await open(this.#draft, "wx", 0o640))
      for (let at = 0; buffer !== undefined && at < bytes;)
        at += (await handle.write(buffer, at, bytes - at)).bytesWritten
    } finally {
      if (buffer !== undefined) this.#buffers.give(buffer)
    }
  }

  /** The file stands durable under its name when this resolves. */
  async finish(): Promise<void> {
    await this.#flushing
    if (this.#failure !== undefined) throw this.#failure
    await this.#flush()
    await this.#handle?.datasync()
    await this.#handle?.close()
    this.#handle = undefined
    const folder = dirname(this.#target)
    await ensureSpread(folder)
    await rename(this.#draft, this.#target)
    await syncFolder(folder)
    openWriters--
  }

  /** Leaves nothing behind; to be called unless `finish` resolved. */
  async discard(): Promise<void> {
    openWriters--
    this.#failure ??= new Error("the write was given up")
    await this.#flushing?.catch(() => {})
    if (this.#buffer !== undefined) this.#buffers.give(this.#buffer)
    this.#buffer = undefined
    await this.#handle?.close().catch(() => {})
    await unlink(this.#draft).catch(() => {})
  }
}
