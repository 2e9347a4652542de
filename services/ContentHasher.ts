import { Context } from "effect"
import type { Sha256 } from "../src/domain/Ids.ts"

/** What the bytes turned out to be. */
export interface Digest {
  readonly sha256: Sha256
  readonly size: number
}

/** One running hash. Plain functions: it sits in the loop of every chunk. */
export interface RunningHash {
  /** Counts and hashes a chunk; does not keep it. */
  readonly update: (chunk: Uint8Array) => void
  /** Bytes seen so far. */
  readonly size: () => number
  /** Ends the hash; to be called once. */
  readonly digest: () => Digest
}

/** SHA-256 and size of bytes as they pass. */
export class ContentHasher extends Context.Tag("services/ContentHasher")<
  ContentHasher,
  { readonly start: () => RunningHash }
>() {}
