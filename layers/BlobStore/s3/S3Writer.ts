import { createHash } from "node:crypto"
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3"
import { Gathered } from "../Gathered.ts"
import type { PartBudget } from "./PartBudget.ts"

/** Parts of one writer that may be on their way at once. */
const inFlightPerWriter = 3

const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("base64")

/**
 * One object on its way: a single PUT when all of it fits one part, else a multipart upload whose parts are sent as they
 * fill. Each request carries its length and Content-MD5, which every store enforces. Memory comes from the budget.
 */
export class S3Writer {
  readonly #client: S3Client
  readonly #bucket: string
  readonly #key: string
  readonly #partBytes: number
  readonly #budget: PartBudget
  readonly #gathered = new Gathered()
  #total = 0
  #partsBegun = 0
  #held = 0
  #uploadId: Promise<string> | undefined
  readonly #parts: Array<{ readonly PartNumber: number; readonly ETag: string }> = []
  readonly #sending = new Set<Promise<void>>()
  readonly #givenUp = new AbortController()
  #failure: unknown
  #ended = false

  constructor(client: S3Client, bucket: string, key: string, partBytes: number, budget: PartBudget) {
    this.#client = client
    this.#bucket = bucket
    this.#key = key
    this.#partBytes = partBytes
    this.#budget = budget
  }

  get size(): number {
    return this.#total
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const granted = this.#budget.take(this, chunk.length)
    if (granted !== undefined) return granted.then(() => this.#add(chunk))
    return this.#add(chunk)
  }

  #add(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#ended) {
      this.#budget.give(this, chunk.length)
      return Promise.reject(this.#failure)
    }
    this.#held += chunk.length
    this.#gathered.add(chunk)
    this.#total += chunk.length
    if (this.#gathered.bytes < this.#partBytes) return undefined
    this.#sendPart()
    return this.#sending.size >= inFlightPerWriter ? Promise.race(this.#sending) : undefined
  }

  #takeGathered(): { readonly body: Buffer; readonly bytes: number } {
    const { bytes } = this.#gathered
    return { body: Buffer.concat(this.#gathered.takeAll(), bytes), bytes }
  }

  #release(bytes: number): void {
    this.#held -= bytes
    this.#budget.give(this, bytes)
  }

  #sendPart(): void {
    const { body, bytes } = this.#takeGathered()
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
            ContentMD5: md5(body),
          }),
          { abortSignal: this.#givenUp.signal },
        ),
      )
      .then(({ ETag }) => {
        if (ETag === undefined) throw new Error("the store gave a part no ETag")
        this.#parts.push({ PartNumber, ETag })
      })
      .catch((error: unknown) => {
        this.#failure ??= error
        throw error
      })
      .finally(() => {
        this.#sending.delete(sent)
        this.#release(bytes)
      })
    sent.catch(() => {})
    this.#sending.add(sent)
  }

  /** The object is whole in the store when this resolves. */
  async finish(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#uploadId === undefined) {
      const { body, bytes } = this.#takeGathered()
      try {
        await this.#client.send(
          new PutObjectCommand({
            Bucket: this.#bucket,
            Key: this.#key,
            Body: body,
            ContentLength: bytes,
            ContentMD5: md5(body),
          }),
        )
      } finally {
        this.#release(bytes)
      }
      this.#ended = true
      return
    }
    if (this.#gathered.bytes > 0) this.#sendPart()
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
    this.#gathered.clear()
    this.#release(this.#held)
    const UploadId = await this.#uploadId?.catch(() => undefined)
    if (UploadId !== undefined)
      await this.#client.send(new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key: this.#key, UploadId }))
  }
}
