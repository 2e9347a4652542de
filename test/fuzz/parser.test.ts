import busboy from "busboy"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { makeParser } from "../../src/http/upload/MultipartParser.ts"

interface Read {
  readonly name: string
  readonly type: string | undefined
  readonly bytes: string
}

/** A part as it is sent. `type` is always given: where it is absent, busboy fills in a type of its own. */
interface Sent {
  readonly name: string
  readonly filename: string
  readonly type: string
  readonly bytes: Buffer
}

const boundary = "----edge7MA4YWxkTrZu0gW"

const bodyOf = (parts: ReadonlyArray<Sent>): Buffer =>
  Buffer.concat([
    ...parts.flatMap(({ bytes, filename, name, type }) => [
      Buffer.from(
        `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="${filename}"\r\nContent-Type: ${type}\r\n\r\n`,
      ),
      bytes,
      Buffer.from("\r\n"),
    ]),
    Buffer.from(`--${boundary}--\r\n`),
  ])

const inPieces = (body: Buffer, cuts: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const places = [...new Set(cuts.map((cut) => cut % body.length))].toSorted((a, b) => a - b)
  return [0, ...places].map((from, index) => body.subarray(from, places[index] ?? body.length))
}

const byOurs = (pieces: ReadonlyArray<Buffer>): ReadonlyArray<Read> => {
  const read: Array<{ name: string; type: string | undefined; chunks: Array<Buffer> }> = []
  const parser = makeParser(boundary, {
    begin: ({ contentType, name }) => void read.push({ name, type: contentType, chunks: [] }),
    data: (chunk) => void read.at(-1)?.chunks.push(Buffer.from(chunk)),
    end: () => {},
  })
  for (const piece of pieces) if (piece.length > 0) parser.push(Buffer.from(piece))
  expect(parser.complete()).toBe(true)
  return read.map(({ chunks, name, type }) => ({ name, type, bytes: Buffer.concat(chunks).toString("hex") }))
}

const byBusboy = (pieces: ReadonlyArray<Buffer>): Promise<ReadonlyArray<Read>> =>
  new Promise((resolve, reject) => {
    const read: Array<{ name: string; type: string; chunks: Array<Buffer> }> = []
    const peer = busboy({ headers: { "content-type": `multipart/form-data; boundary=${boundary}` } })
    peer.on("file", (name, stream, { mimeType }) => {
      const part = { name, type: mimeType, chunks: [] as Array<Buffer> }
      read.push(part)
      stream.on("data", (chunk: Buffer) => void part.chunks.push(chunk))
    })
    peer.on("error", reject)
    peer.on("close", () =>
      resolve(read.map(({ chunks, name, type }) => ({ name, type, bytes: Buffer.concat(chunks).toString("hex") }))),
    )
    for (const piece of pieces) peer.write(piece)
    peer.end()
  })

/** Bytes that look like the beginning of a boundary, more often than chance would have it. */
const content = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom("\r", "\n", "\r\n", "\r\n-", "\r\n--", `\r\n--${boundary.slice(0, 9)}`, "--")
        .map((text) => Buffer.from(text)),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => Buffer.concat(pieces))
  .filter((bytes) => !`\r\n${bytes.toString("latin1")}`.includes(`\r\n--${boundary}`))

const word = fc.string({ unit: fc.constantFrom(..."abcxyz019_-."), minLength: 1, maxLength: 20 })
const part = fc.record({
  name: word,
  filename: word,
  type: fc.constantFrom("text/plain", "image/png", "application/octet-stream"),
  bytes: content,
})

describe("the multipart parser", () => {
  it("reads of any valid body what busboy reads, however the bytes are cut", { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat({ max: 4000 }), { maxLength: 40 }),
        async (parts, cuts) => {
          const pieces = inPieces(bodyOf(parts), cuts)
          const ours = byOurs(pieces)
          expect(ours).toEqual(parts.map(({ bytes, name, type }) => ({ name, type, bytes: bytes.toString("hex") })))
          expect(ours).toEqual(await byBusboy(pieces))
        },
      ),
      { numRuns: 1000 },
    )
  })
})
