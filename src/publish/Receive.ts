/** What the file part's own header said. */
export interface FilePartInfo {
  /** Absent when the part has no Content-Type header; never guessed. */
  readonly contentType: string | undefined
}

/** Takes the file's bytes, chunk by chunk. */
export interface FileSink {
  /**
   * `undefined`: go on; a promise: wait for it first (back-pressure). Rejecting or throwing ends the upload. The chunk
   * is not the sink's to keep: its memory is given back once this returned, or the promise resolved.
   */
  write(chunk: Uint8Array): Promise<void> | undefined
}

/**
 * Called in the order of the body, one at a time. What either throws or rejects with ends the upload with that very
 * value. The publisher is told of a field once it is whole, and of the file when its first bytes stand at the door.
 */
export interface ReceiveHandlers {
  onField(name: string, value: Uint8Array): void
  onFile(info: FilePartInfo): Promise<FileSink>
}

/** Reads the body to its very end; rejects with a refusal of Refusals.ts, or with what a handler threw. */
export type Receive = (handlers: ReceiveHandlers, signal: AbortSignal) => Promise<void>
