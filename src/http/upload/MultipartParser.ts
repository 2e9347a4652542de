import { BadRequest } from "../../publish/Refusals.ts"
import { type PartInfo, parsePartHeaders } from "./PartHeaders.ts"

/** What a body turns out to be, in its order. `data` may come any number of times a part, never empty. */
export interface PartEvents {
  readonly begin: (info: PartInfo) => void
  readonly data: (chunk: Buffer) => void
  readonly end: () => void
}

export interface MultipartParser {
  /**
   * Takes the next bytes of the body; throws BadRequest. Returns the bytes of which what it handed on are views, which is
   * the chunk unless something was held back; of neither it keeps anything.
   */
  readonly push: (chunk: Buffer) => Buffer
  /** Whether the closing boundary was seen. */
  readonly complete: () => boolean
}

/** Of one part: a name, a filename and a type take a few hundred bytes. */
const maxHeaderBytes = 4 * 1024
const maxPaddingBytes = 128
const maxOutsideBytes = 64 * 1024
const maxParts = 32

const CR = 13
const empty = Buffer.alloc(0)
const blankLine = "\r\n\r\n"

const malformed = (what: string) => new BadRequest({ message: `The multipart body is malformed: ${what}.` })

/**
 * RFC 7578 and 2046, strictly and synchronously. However the bytes are cut into chunks, the same parts come out. Holds
 * back at most one header block, or one boundary's length while bytes flow.
 */
export const makeParser = (boundary: string, events: PartEvents): MultipartParser => {
  const delimiter = Buffer.from(`\r\n--${boundary}`, "latin1")
  let state: "preamble" | "delimited" | "headers" | "body" | "epilogue" = "preamble"
  // Bytes that wait for more. The first delimiter needs no line end before it.
  let rest: Buffer = Buffer.from("\r\n")
  /** How many bytes of `rest` were searched for the end of a header block, in vain. */
  let searched = 0
  let outside = 0
  let parts = 0

  const countOutside = (bytes: number) => {
    outside += bytes
    if (outside > maxOutsideBytes) throw malformed("too many bytes outside its parts")
  }

  /** Where a delimiter may begin that the bytes at hand do not complete; the end when none may. */
  const tail = (bytes: Buffer, from: number): number => {
    const at = bytes.indexOf(CR, Math.max(from, bytes.length - delimiter.length + 1))
    return at === -1 ? bytes.length : at
  }

  /** Each step takes from `at` on and returns where the next one begins, or `undefined` to wait for more bytes. */
  const steps = {
    preamble: (bytes: Buffer, at: number): number | undefined => {
      const found = bytes.indexOf(delimiter, at)
      if (found === -1) {
        const keep = tail(bytes, at)
        countOutside(keep - at)
        rest = Buffer.from(bytes.subarray(keep))
        return undefined
      }
      countOutside(found - at)
      state = "delimited"
      return found + delimiter.length
    },
    delimited: (bytes: Buffer, at: number): number | undefined => {
      let cursor = at
      while (bytes[cursor] === 32 || bytes[cursor] === 9) cursor++
      if (cursor - at > maxPaddingBytes) throw malformed("a boundary is padded too far")
      if (bytes.length - cursor < 2) {
        rest = Buffer.from(bytes.subarray(at))
        return undefined
      }
      if (bytes[cursor] === 45 && bytes[cursor + 1] === 45 && cursor === at) state = "epilogue"
      else if (bytes[cursor] === CR && bytes[cursor + 1] === 10) {
        if (++parts > maxParts) throw malformed("it has too many parts")
        state = "headers"
      } else throw malformed("a boundary has no end of line")
      return cursor + 2
    },
    headers: (bytes: Buffer, at: number): number | undefined => {
      const found = bytes.indexOf(blankLine, at + searched, "latin1")
      if ((found === -1 ? bytes.length : found) - at > maxHeaderBytes) throw malformed("a part's headers are too large")
      if (found === -1) {
        searched = Math.max(0, bytes.length - at - (blankLine.length - 1))
        rest = Buffer.from(bytes.subarray(at))
        return undefined
      }
      searched = 0
      state = "body"
      events.begin(parsePartHeaders(bytes.toString("latin1", at, found)))
      return found + 4
    },
    body: (bytes: Buffer, at: number): number | undefined => {
      const found = bytes.indexOf(delimiter, at)
      const stop = found === -1 ? tail(bytes, at) : found
      if (stop > at) events.data(bytes.subarray(at, stop))
      if (found === -1) {
        rest = Buffer.from(bytes.subarray(stop))
        return undefined
      }
      events.end()
      state = "delimited"
      return found + delimiter.length
    },
    epilogue: (bytes: Buffer, at: number): number | undefined => {
      countOutside(bytes.length - at)
      return undefined
    },
  }

  return {
    push: (chunk) => {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      rest = empty
      let at: number | undefined = 0
      while (at !== undefined) at = steps[state](bytes, at)
      return bytes
    },
    complete: () => state === "epilogue",
  }
}
