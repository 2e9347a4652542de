import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3"
import { type Buffers, sizeFor } from "../Buffers.ts"
import type { PartBudget } from "./PartBudget.ts"

/** Parts of one writer that may be on their way at once. */
const inFlightPerWriter = 3

/**
 * One object on its way: a single PUT when all of it fits one part, else a multipart upload whose parts are sent as they
 * fill. Each request carries its length and is signed with the SHA-256 of its bytes, which every
 * store enforces. Memory comes from the budget.
 */
export class S3Writer {
  readonly #client: S3Client
  readonly #bucket: string
  readonly #key: string
  readonly #budget: PartBudget
  readonly #buffers: Buffers
  readonly #partBytes: number
  /** The part that fills; that of a small object is no larger than it needs. */
  #part: Buffer | undefined
  #filled = 0
  #total = 0
  #partsBegun = 0
  #held = 0
  #uploadId: Promise<string> | undefined
  readonly #parts: Array<{ readonly PartNumber: number; readonly ETag: string }> = []
  readonly #sending = new Set<Promise<void>>()
  readonly #givenUp = new AbortController()
  #failure: unknown
  #ended = false

  constructor(client: S3Client, bucket: string, key: string, partBytes: number, budget: PartBudget, buffers: Buffers) {
    this.#client = client
    this.#bucket = bucket
    this.#key = key
    this.#partBytes = partBytes
    this.#budget = budget
    this.#buffers = buffers
  }

  get size(): number {
    return this.#total
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#total += chunk.length
    return this.#add(chunk)
  }

  #add(chunk: Uint8Array): Promise<void> | undefined {
    for (let at = 0; at < chunk.length;) {
      const part = this.#part
      if (part === undefined || (part.length < this.#partBytes && part.length - this.#filled < chunk.length - at)) {
        const rest = chunk.subarray(at)
        const size = this.#sizeFor(rest.length)
        const more = size - (part?.length ?? 0)
        const granted = this.#budget.take(this, more)
        if (granted !== undefined)
          return granted.then(() => {
            if (this.#ended) {
              this.#budget.give(this, more)
              throw this.#failure
            }
            this.#grow(size)
            return this.#add(rest)
          })
        this.#grow(size)
        continue
      }
      const taken = Math.min(chunk.length - at, part.length - this.#filled)
      part.set(chunk.subarray(at, at + taken), this.#filled)
      at += taken
      this.#filled += taken
      if (this.#filled === this.#partBytes) this.#sendPart(part)
    }
    return this.#sending.size >= inFlightPerWriter ? Promise.race(this.#sending) : undefined
  }

  /** Of a buffer for what the part holds and so many bytes more, or for a whole part. */
  #sizeFor(bytes: number): number {
    return this.#partsBegun > 0 ? this.#partBytes : sizeFor(this.#filled + bytes, this.#partBytes)
  }

  #grow(size: number): void {
    const before = this.#part
    this.#held += size - (before?.length ?? 0)
    this.#part = this.#buffers.take(size)
    if (before === undefined) return
    this.#part.set(before.subarray(0, this.#filled))
    this.#buffers.give(before)
  }

  #release(bytes: number): void {
    this.#held -= bytes
    this.#budget.give(this, bytes)
  }

  #sendPart(part: Buffer): void {
    const bytes = this.#filled
    const body = part.subarray(0, bytes)
    const room = part.length
    this.#part = undefined
    this.#filled = 0
    this.#partsBegun++
    const PartNumber = this.#partsBegun
    this.#uploadId ??= this.#client
      .send(new CreateMultipartUploadCommand({ Bucket: this.#bucket, Key: this.#key }))
      .then(({ UploadId }) => {
        if (UploadId === undefined) throw new Error("the store opened no multipart upload")
        return UploadId
      })
    const sent = this.#uploadId
      .then((UploadId) =>
        this.#client.send(
          new UploadPartCommand({
            Bucket: this.#bucket,
            Key: this.#key,
            UploadId,
            PartNumber,
            Body: body,
            ContentLength: bytes,
          }),
          { abortSignal: this.#givenUp.signal },
        ),
      )
      .then(({ ETag }) => {
        if (ETag === undefined) throw new Error("the store gave a part no ETag")
        this.#parts.push({ PartNumber, ETag })
        // Only now: of a request that failed, the socket may still hold bytes.
        this.#buffers.give(part)
      })
      .catch((error: unknown) => {
        this.#failure ??= error
        throw error
      })
      .finally(() => {
        this.#sending.delete(sent)
        this.#release(room)
      })
    sent.catch(() => {})
    this.#sending.add(sent)
  }

  /** The object is whole in the store when this resolves. */
  async finish(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#uploadId === undefined) {
      const part = this.#part
      const body = part?.subarray(0, this.#filled) ?? Buffer.alloc(0)
      try {
        await this.#client.send(
          new PutObjectCommand({
            Bucket: this.#bucket,
            Key: this.#key,
            Body: body,
            ContentLength: body.length,
          }),
        )
        if (part !== undefined) this.#buffers.give(part)
      } finally {
        this.#part = undefined
        this.#release(this.#held)
      }
      this.#ended = true
      return
    }
    if (this.#part !== undefined) this.#sendPart(this.#part)
    await Promise.all(this.#sending)
    if (this.#failure !== undefined) throw this.#failure
    const Parts = this.#parts.toSorted((a, b) => a.PartNumber - b.PartNumber)
    const UploadId = await this.#uploadId
    await this.#client.send(
      new CompleteMultipartUploadCommand({
        Bucket: this.#bucket,
        Key: this.#key,
        UploadId,
        MultipartUpload: { Parts },
      }),
    )
    const { ContentLength } = await this.#client.send(new HeadObjectCommand({ Bucket: this.#bucket, Key: this.#key }))
    if (ContentLength !== this.#total)
      throw new Error(`the store holds ${ContentLength} bytes instead of ${this.#total}`)
    this.#ended = true
  }

  /** Gives the memory back and aborts at the store; to be called unless `finish` resolved. */
  async discard(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#failure ??= new Error("the write was given up")
    this.#givenUp.abort()
    await Promise.allSettled(this.#sending)
    if (this.#part !== undefined) this.#buffers.give(this.#part)
    this.#part = undefined
    this.#release(this.#held)
    const UploadId = await this.#uploadId?.catch(() => undefined)
    if (UploadId !== undefined)
      await this.#client.send(new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key: this.#key, UploadId }))
  }
}
