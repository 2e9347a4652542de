import { createCipheriv, createHash } from "node:crypto"
import type { Answer, Tenant } from "./plane.ts"

/** The claim under which a client works, as it was asked for. */
export interface Claim {
  readonly jobId: string
  readonly runId: string
  readonly stepId: string
  readonly session: string
  readonly attempt: number
  readonly owner: string
  readonly visibility: "shared" | "private"
}

/** Something the plane acknowledged; the times are the client's clock in milliseconds, around all tries. */
export interface Fact {
  readonly id: string
  readonly name: string
  readonly size: number
  readonly sha256: string
  readonly claim: Claim
  readonly begun: number
  readonly answered: number
}

export interface Deletion {
  readonly begun: number
  /** Absent: asked for and never confirmed, so that either end is right. */
  answered: number | undefined
}

/** What the clients of one project know: every acknowledged fact, and what they never heard the end of. */
export interface Model {
  readonly tenant: Tenant
  /** The API key that reads what belongs to this owner. */
  readonly keyOf: (owner: string) => string
  readonly facts: Map<string, Fact>
  readonly deletions: Map<string, Deletion>
  /** Names of uploads that must never be seen: they were refused for good, or had to be. */
  readonly refused: Set<string>
  /** Names of uploads without an answer: at most one artifact each. */
  readonly doubtful: Set<string>
}

export const makeModel = (tenant: Tenant): Model => ({
  tenant,
  keyOf: () => tenant.key,
  facts: new Map(),
  deletions: new Map(),
  refused: new Set(),
  doubtful: new Set(),
})

/** What happened to requests, of all projects together. */
export class Chronicle {
  readonly done = new Map<string, number>()
  readonly errors = new Map<string, number>()
  /** Promises that were broken before the clients' eyes. */
  readonly faults: Array<string> = []
  /** `[begun, ended]` of every request that succeeded, in the order of their ends. */
  readonly successes: Array<readonly [number, number]> = []

  succeeded(what: string, begun: number): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1)
    this.successes.push([begun, Date.now()])
  }

  failed(what: string, how: string): void {
    const kind = `${what}: ${how}`
    this.errors.set(kind, (this.errors.get(kind) ?? 0) + 1)
  }

  fault(sentence: string): void {
    if (this.faults.length < 100) this.faults.push(sentence)
  }

  /** The answer; undefined, and one error more, when the connection broke or came to an end without one. */
  async hear<A>(what: string, ask: () => Promise<A>): Promise<A | undefined> {
    try {
      return await ask()
    } catch (error) {
      this.failed(what, breakage(error))
      return undefined
    }
  }
}

/** How a request broke, in few words; anything but a connection or an answer that broke is thrown on. */
const breakage = (error: unknown): string => {
  if (!(error instanceof Error)) throw error
  if (error.name === "TimeoutError") return "no answer in time"
  if (error instanceof SyntaxError) return "an answer that is no JSON"
  // fetch puts the connection's fault into the cause, node:http throws it itself.
  const fault = (error instanceof TypeError ? error.cause : error) as NodeJS.ErrnoException | undefined
  if (fault?.code === undefined) throw error
  return fault.code === "UND_ERR_SOCKET" ? fault.message : fault.code
}

/** An answer in few words. A refusal without an envelope is the balancer's own. */
export const inWords = ({ body, status }: Answer): string => {
  if (status < 400) return String(status)
  return body?.error?.code === undefined ? `${status} of the balancer` : `${status} ${body.error.code}`
}

/** Whether it says no more than "not now": the same request may be made again. */
export const isTransient = ({ status }: Answer): boolean => [429, 502, 503, 504].includes(status)

/** Bytes that follow from their name alone, so that they can be compared long after. */
export const contentOf = (name: string, size: number): Uint8Array<ArrayBuffer> => {
  const seed = createHash("sha256").update(name).digest()
  const cipher = createCipheriv("aes-128-ctr", seed.subarray(0, 16), seed.subarray(16))
  return new Uint8Array(cipher.update(Buffer.alloc(size)))
}
