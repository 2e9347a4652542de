import { randomBytes } from "node:crypto"
import { type FileHandle, mkdir, open, rename, unlink } from "node:fs/promises"
import { dirname, join } from "node:path"
import { Gathered } from "./Gathered.ts"

/**
 * Bytes gathered before they are written: fewer with many files at once, so that all of them together stay within a
 * bound. Twice as many may wait before the sender is held back.
 */
const mostGathered = 256 * 1024
const leastGathered = 64 * 1024
const gatheredByAll = 16 * 1024 * 1024
/** Those neither finished nor discarded. */
let openWriters = 0
const gather = () => Math.max(leastGathered, Math.min(mostGathered, gatheredByAll / openWriters))

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
 * One file on its way: gathered, written by one `writev` at a time, synced, then renamed to its final name. Opened at
 * the first write to the disk, which for a small file is its only one.
 */
export class FileWriter {
  readonly #target: string
  readonly #draft: string
  #handle: FileHandle | undefined
  readonly #waiting = new Gathered()
  #written = 0
  #flushing: Promise<void> | undefined
  #failure: unknown

  constructor(temporaryFolder: string, target: string, name: string) {
    openWriters++
    this.#target = target
    this.#draft = join(temporaryFolder, `${name}.${randomBytes(6).toString("hex")}`)
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#written + this.#waiting.bytes
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#waiting.add(chunk)
    const enough = gather()
    if (this.#waiting.bytes >= enough && this.#flushing === undefined) this.#startFlush()
    return this.#waiting.bytes >= 2 * enough ? this.#flushing : undefined
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
    while (this.#waiting.bytes >= gather()) await this.#writeWaiting(this.#handle)
  }

  async #writeWaiting(handle: FileHandle): Promise<void> {
    let bytes = this.#waiting.bytes
    let chunks = this.#waiting.takeAll()
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
    if (this.#waiting.bytes > 0) await this.#writeWaiting(this.#handle)
    await this.#handle.datasync()
    await this.#handle.close()
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
    this.#waiting.clear()
    await this.#flushing?.catch(() => {})
    await this.#handle?.close().catch(() => {})
    await unlink(this.#draft).catch(() => {})
  }
}
