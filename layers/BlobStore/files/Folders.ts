import { hash } from "node:crypto"
import { mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { close, openFile, sync } from "./fileCalls.ts"

/** Makes names in a folder durable: POSIX promises a rename only after the folder itself was synced. */
export const syncFolder = async (folder: string): Promise<void> => {
  const fd = await openFile(folder, "r")
  try {
    await sync(fd)
  } finally {
    await close(fd)
  }
}

/** The store's folders are not for other users of the machine; their group may read them, to make copies say. */
const folderMode = 0o750

/** Makes a folder and its parents, each durable in the folder above it. */
export const makeFolder = async (folder: string): Promise<void> => {
  const first = await mkdir(folder, { recursive: true, mode: folderMode })
  if (first === undefined) return
  for (let made = folder; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
}

/** One folder, kept open so that its sync is one call, and synced once for all who wait at the same time. */
class Folder {
  readonly #path: string
  #fd: Promise<number> | undefined
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** What was renamed into the folder before this call is durable when it resolves. */
  sync(): Promise<void> {
    if (this.#running === undefined) return this.#begin()
    // The one under way may have begun too early for this caller; all who come meanwhile share the one after it.
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.#begin()
      })
    return this.#next
  }

  #begin(): Promise<void> {
    const running = this.#sync().finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }

  async #sync(): Promise<void> {
    this.#fd ??= openFile(this.#path, "r")
    try {
      await sync(await this.#fd)
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async close(): Promise<void> {
    const fd = await this.#fd?.catch(() => undefined)
    this.#fd = undefined
    if (fd !== undefined) await close(fd).catch(() => {})
  }
}

/** How many folders objects are spread over, by a hash of their keys: small enough to be made beforehand. */
const spread = 256

/** The folders of all objects. They are made before the first object, so that no write has to think of it. */
export class Folders {
  readonly #folders = new Map<string, Folder>()
  readonly #root: string

  private constructor(root: string) {
    this.#root = root
  }

  static async open(root: string): Promise<Folders> {
    await makeFolder(root)
    const folders = new Folders(root)
    for (let index = 0; index < spread; index++) {
      const path = join(root, index.toString(16).padStart(2, "0"))
      await mkdir(path, folderMode).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error
      })
      folders.#folders.set(path, new Folder(path))
    }
    // Whoever made them may not have come so far.
    await syncFolder(root)
    return folders
  }

  /** In their order by name. */
  get paths(): Iterable<string> {
    return this.#folders.keys()
  }

  pathOf(key: string, name: string): string {
    return join(this.#root, hash("sha256", key).slice(0, 2), name)
  }

  /** Makes a name in one of the folders durable. */
  sync(path: string): Promise<void> {
    return this.#folders.get(dirname(path))?.sync() ?? syncFolder(dirname(path))
  }

  async close(): Promise<void> {
    await Promise.all([...this.#folders.values()].map((folder) => folder.close()))
  }
}
