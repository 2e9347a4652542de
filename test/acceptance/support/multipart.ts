import { createHash, randomBytes } from "node:crypto"

/** One part, exactly as it will stand in the body. */
export interface Part {
  readonly name: string
  readonly value: string | Uint8Array
  readonly filename?: string
  /** The part's own Content-Type; absent: the header is left out. */
  readonly type?: string
}

export const field = (name: string, value: string): Part => ({ name, value })

export const filePart = (value: string | Uint8Array, type?: string): Part => ({
  name: "file",
  value,
  filename: "upload.bin",
  ...(type === undefined ? {} : { type }),
})

export interface Body {
  readonly contentType: string
  readonly bytes: Buffer
}

/** The parts in the given order, each with CRLF line ends, closed by the final boundary. */
export const multipart = (parts: ReadonlyArray<Part>): Body => {
  const boundary = `----acceptance${randomBytes(12).toString("hex")}`
  const pieces: Array<Buffer> = []
  for (const part of parts) {
    const filename = part.filename === undefined ? "" : `; filename="${part.filename}"`
    const type = part.type === undefined ? "" : `Content-Type: ${part.type}\r\n`
    pieces.push(
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${part.name}"${filename}\r\n${type}\r\n`),
      Buffer.from(part.value),
      Buffer.from("\r\n"),
    )
  }
  pieces.push(Buffer.from(`--${boundary}--\r\n`))
  return { contentType: `multipart/form-data; boundary=${boundary}`, bytes: Buffer.concat(pieces) }
}

/** The same bytes in pieces of `size`, with an optional pause in milliseconds between two. */
export async function* inChunks(bytes: Uint8Array, size: number, pauseMillis = 0): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) {
    if (at > 0 && pauseMillis > 0) await new Promise((resolve) => setTimeout(resolve, pauseMillis))
    yield bytes.subarray(at, at + size)
  }
}

/** A body of which `share` (0–1) is sent, and the rest once `resume` is called; `reached` settles in between. */
export const inTwoHalves = (bytes: Uint8Array, share = 0.5) => {
  const middle = Math.floor(bytes.byteLength * share)
  const gate = Promise.withResolvers<void>()
  const reached = Promise.withResolvers<void>()
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(0, middle)
    reached.resolve()
    await gate.promise
    yield bytes.subarray(middle)
  }
  return { chunks: chunks(), reached: reached.promise, resume: gate.resolve }
}

export const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex")
