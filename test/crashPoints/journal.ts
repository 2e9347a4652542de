import { appendFileSync, existsSync, readFileSync } from "node:fs"
import { createHash } from "node:crypto"

/** The project of one case, and all that its worker needs to go on in another process. */
export interface Tenant {
  /** What the case is, in words. */
  readonly title: string
  readonly project: string
  readonly keyId: string
  readonly token: string
}

/** What a worker asked for, before it did. */
export interface Upload {
  readonly project: string
  readonly name: string
  /** Bytes. */
  readonly size: number
  /** With a key the worker tries again until it is answered, and the artifact is there exactly once; else at most once. */
  readonly key?: string | undefined
  /** It has to be refused, so that nothing may be there. */
  readonly refused?: true | undefined
}

export type Entry =
  | ({ readonly kind: "tenant" } & Tenant)
  | ({ readonly kind: "upload" } & Upload)
  /** The plane acknowledged the upload of this name. */
  | { readonly kind: "made"; readonly project: string; readonly name: string; readonly id: string }
  /** `once`: the worker does not ask again, so that it may be there still. */
  | { readonly kind: "delete"; readonly project: string; readonly id: string; readonly once?: boolean | undefined }
  | { readonly kind: "deleted"; readonly project: string; readonly id: string }
  /** A paused process may have written after its upload was swept: only the listing of the store finds that. */
  | { readonly kind: "paused"; readonly project: string }
  /** This fact stood in the stream alone, for its event was pruned, when the test took the stream away. */
  | { readonly kind: "forgotten"; readonly fact: string }
  /** The test itself put this event into the stream, or took one out. */
  | { readonly kind: "foreign"; readonly id: string }

/** What workers know. It outlives the process that writes it: each line is on its way to the disk before the next step. */
export class Journal {
  readonly #file: string
  readonly #entries: Array<Entry>

  constructor(file: string) {
    this.#file = file
    const text = existsSync(file) ? readFileSync(file, "utf8") : ""
    this.#entries = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line))
  }

  write(entry: Entry): void {
    this.#entries.push(entry)
    appendFileSync(this.#file, `${JSON.stringify(entry)}\n`)
  }

  of<K extends Entry["kind"]>(kind: K): ReadonlyArray<Extract<Entry, { kind: K }>> {
    return this.#entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind)
  }
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")
