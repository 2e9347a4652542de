import * as fs from "node:fs"

type Done<A> = (error: NodeJS.ErrnoException | null, value: A) => void

const call = <A>(run: (done: Done<A>) => void): Promise<A> =>
  new Promise((resolve, reject) => run((error, value) => (error === null ? resolve(value) : reject(error))))

/** Calls on bare descriptors: the objects that `node:fs/promises` puts around each cost more than a small file's bytes. */
export const openFile = (path: string, flags: string, mode?: number): Promise<number> =>
  call((done) => fs.open(path, flags, mode, done))

/** Bytes read into the buffer from `position` on, at most `length`. */
export const readAt = (fd: number, buffer: Uint8Array, length: number, position: number): Promise<number> =>
  call((done) => fs.read(fd, buffer, 0, length, position, done))

/** Bytes written from the buffer's `offset` on, at most `length`. */
export const write = (fd: number, buffer: Uint8Array, offset: number, length: number): Promise<number> =>
  call((done) => fs.write(fd, buffer, offset, length, null, done))

export const syncData = (fd: number): Promise<void> =>
  call((done: Done<void>) => fs.fdatasync(fd, done as fs.NoParamCallback))
export const sync = (fd: number): Promise<void> => call((done: Done<void>) => fs.fsync(fd, done as fs.NoParamCallback))
export const close = (fd: number): Promise<void> => call((done: Done<void>) => fs.close(fd, done as fs.NoParamCallback))
export const move = (from: string, to: string): Promise<void> =>
  call((done: Done<void>) => fs.rename(from, to, done as fs.NoParamCallback))

/**
 * Closes a file that was only read, or whose bytes are synced: it waits for nothing, and a trip to another thread would
 * cost more. Nothing can be done about a failure.
 */
export const closeNow = (fd: number): void => {
  try {
    fs.closeSync(fd)
  } catch {
    // Nothing was left to write.
  }
}
