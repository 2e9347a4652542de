import { randomBytes } from "node:crypto"
import { type FileHandle, mkdir, open, rename, unlink } from "node:fs/promises"
import { dirname, join } from "node:path"

/** Bytes gathered before they are written, and the most that may wait before the sender is held back. */
const gather = 256 * 1024
const holdBack = 512 * 1024

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

/**
 * One file on its way: gathered, written by one `writev` at a time, synced, then renamed to its final name. Opened at
 * the first write to the disk, which for a small file is its only one.
 */
export class FileWriter {
  readonly #target: string
  readonly #draft: string
  #handle: FileHandle | undefined
  #waiting: Array<Uint8Array> = []
  #waitingBytes = 0
  #written = 0
  #flushing: Promise<void> | undefined
  #failure: unknown

  constructor(temporaryFolder: string, target: string, name: string) {
    this.#target = target
    this.#draft = join(temporaryFolder, `${name}.${randomBytes(6).toString("hex")}`)
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#written + this.#waitingBytes
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#waiting.push(chunk)
    this.#waitingBytes += chunk.length
    if (this.#waitingBytes >= gather && this.#flushing === undefined) this.#startFlush()
    return this.#waitingBytes >= holdBack ? this.#flushing : undefined
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
    this.#handle ??= await open(this.#draft, "wx", 0o640)
    while (this.#waitingBytes >= gather) await this.#writeWaiting(this.#handle)
  }

  async #writeWaiting(handle: FileHandle): Promise<void> {
    let chunks = this.#waiting
    let bytes = this.#waitingBytes
    this.#waiting = []
    this.#waitingBytes = 0
    this.#written += bytes
    while (bytes > 0) {
      const { bytesWritten } = await handle.writev(chunks)
      bytes -= bytesWritten
      if (bytes > 0) chunks = [Buffer.concat(chunks).subarray(bytesWritten)]
    }
  }

  /** The file stands durable under its name when this resolves. */
  async finish(): Promise<void> {
    await this.#flushing
    if (this.#failure !== undefined) throw this.#failure
    this.#handle ??= await open(this.#draft, "wx", 0o640)
    if (this.#waitingBytes > 0) await this.#writeWaiting(this.#handle)
    await this.#handle.datasync()
    await this.#handle.close()
    this.#handle = undefined
    const folder = dirname(this.#target)
    try {
      await rename(this.#draft, this.#target)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error
      await makeFolder(folder)
      await rename(this.#draft, this.#target)
    }
    await syncFolder(folder)
  }

  /** Leaves nothing behind; to be called unless `finish` resolved. */
  async discard(): Promise<void> {
    this.#failure ??= new Error("the write was given up")
    this.#waiting = []
    this.#waitingBytes = 0
    await this.#flushing?.catch(() => {})
    await this.#handle?.close().catch(() => {})
    await unlink(this.#draft).catch(() => {})
  }
}
