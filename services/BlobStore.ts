import { Context, type DateTime, type Effect, Schema, type Scope, type Stream } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** The store answered, and has no object under the key. A store that is away or not there is `DependencyUnavailable`. */
export class BlobMissing extends Schema.TaggedError<BlobMissing>()("BlobMissing", { key: Schema.String }) {}

/** An object on its way into the store. Leaving the scope it was opened in before `finish` discards it. */
export interface BlobWriter {
  /**
   * Takes the bytes, not the chunk: it is the caller's again at the return, or once the promise resolved. `undefined`:
   * go on; a promise: wait for it first (back-pressure). A rejection means the store failed; the writer is then dead.
   */
  readonly write: (chunk: Uint8Array) => Promise<void> | undefined
  /** Resolves once the object is durable and whole under its key; never before. To be called once. */
  readonly finish: Effect.Effect<void, DependencyUnavailable>
}

/** Bytes on their way out. */
export interface BlobReader {
  /** The next chunk, valid until the next call; `undefined` at the end of the range. Rejects when the store fails. */
  readonly next: () => Promise<Uint8Array | undefined>
}

export interface BlobStat {
  readonly key: string
  /** Bytes. */
  readonly size: number
  readonly modifiedAt: DateTime.Utc
}

/** A write that was begun and neither finished nor discarded, of a writer that is alive or dead. */
export interface PartialWrite {
  readonly key: string
  /** The store's own name of this write; there may be several of one key. */
  readonly handle: string
  /** When it was begun, or last written to. */
  readonly touchedAt: DateTime.Utc
}

/**
 * Immutable objects under keys of `[A-Za-z0-9_/-]`. A key is written once in its life. An object is invisible until
 * its `finish`, then whole; a reader never sees half of one. Memory per open writer or reader is bounded, whatever
 * the object's size. Transient faults are retried inside a layer for a few seconds at the most.
 */
export class BlobStore extends Context.Tag("services/BlobStore")<
  BlobStore,
  {
    /** `size` in bytes if known beforehand; `finish` then fails unless exactly that many came. */
    readonly open: (
      key: string,
      options: { readonly size?: number | undefined },
    ) => Effect.Effect<BlobWriter, DependencyUnavailable, Scope.Scope>
    /** `offset + length` must lie within the object. Removing the object does not disturb a reader that has begun. */
    readonly read: (
      key: string,
      range: { readonly offset: number; readonly length: number },
    ) => Effect.Effect<BlobReader, BlobMissing | DependencyUnavailable, Scope.Scope>
    readonly stat: (key: string) => Effect.Effect<BlobStat, BlobMissing | DependencyUnavailable>
    /** Durable when it returns. Idempotent: a missing object is removed already. */
    readonly remove: (key: string) => Effect.Effect<void, DependencyUnavailable>
    /**
     * Every object, streamed, in a fixed order of the store's own. With `after`, a key: only what comes behind it in that
     * order, whether or not an object stands there, so that one listing goes on where another stopped. Objects that are
     * written or removed meanwhile may be in it or not.
     */
    readonly list: (options?: { readonly after?: string | undefined }) => Stream.Stream<BlobStat, DependencyUnavailable>
    /** Every unfinished write (temporary file, multipart upload), streamed, those of living writers included. */
    readonly partials: Stream.Stream<PartialWrite, DependencyUnavailable>
    /** Removes an unfinished write; its writer, if there still is one, fails. Idempotent. */
    readonly removePartial: (partial: PartialWrite) => Effect.Effect<void, DependencyUnavailable>
    /**
     * A URL that serves the object by GET as an attachment until `expiresAt`, never later than the credentials that
     * signed it; `undefined` when the store has no URLs of its own and the node must sign and serve.
     */
    readonly signedUrl: (
      key: string,
      options: { readonly ttlSeconds: number; readonly mime: string; readonly disposition: string },
    ) => Effect.Effect<{ readonly url: string; readonly expiresAt: DateTime.Utc } | undefined, DependencyUnavailable>
    /**
     * The identity the store has, `undefined` without one. With `place`, one that has none is given `storeId`, durably,
     * unless another caller was first. Fails when the store must not be used.
     */
    readonly identify: (
      storeId: string,
      options: { readonly place: boolean },
    ) => Effect.Effect<string | undefined, DependencyUnavailable | UnsuitableStore>
    /** The last text given to `setWatermark`, `undefined` before the first. Not part of `list`. */
    readonly watermark: Effect.Effect<string | undefined, DependencyUnavailable>
    /** Replaces the text, durably and as a whole. */
    readonly setWatermark: (text: string) => Effect.Effect<void, DependencyUnavailable>
    /** Answers when the store does. */
    readonly ping: Effect.Effect<void, DependencyUnavailable>
  }
>() {}

/** The store cannot keep the contract, e.g. a versioned bucket, where a delete deletes nothing. One readable sentence. */
export class UnsuitableStore extends Schema.TaggedError<UnsuitableStore>()("UnsuitableStore", {
  reason: Schema.String,
}) {}
