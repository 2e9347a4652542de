import { closeNow, openFile } from "./fileCalls.ts"

interface Shared {
  readonly fd: Promise<number>
  readers: number
}

/** A descriptor to read from, at positions of one's own, until `leave` is called, once. */
export interface OpenFile {
  readonly fd: number
  readonly leave: () => void
}

/**
 * Descriptors of the objects that are being read. Whoever reads one at the same time as others shares theirs, for reads
 * name their position; the last one to leave closes it. A new artifact is often read by many at once, who waited for it.
 */
export class OpenFiles {
  readonly #files = new Map<string, Shared>()

  async join(path: string): Promise<OpenFile> {
    let file = this.#files.get(path)
    if (file === undefined) this.#files.set(path, (file = { fd: openFile(path, "r"), readers: 0 }))
    const joined = file
    joined.readers++
    try {
      return { fd: await joined.fd, leave: () => this.#leave(path, joined) }
    } catch (error) {
      this.#forget(path, joined)
      throw error
    }
  }

  /** The file was removed: those who read it go on, and those who come do not find it. */
  removed(path: string): void {
    this.#files.delete(path)
  }

  #leave(path: string, file: Shared): void {
    if (--file.readers > 0) return
    this.#forget(path, file)
    void file.fd.then(closeNow)
  }

  #forget(path: string, file: Shared): void {
    if (this.#files.get(path) === file) this.#files.delete(path)
  }
}
