/**
 * The bytes of parts that all writers of a process may hold in memory together. Granted in order as bytes arrive. All
 * of it may end up held by parts that are not full yet, so that nobody could go on: then the one who waits longest is
 * let through beyond the budget, one writer at a time, until something is given back.
 */
export class PartBudget {
  #free: number
  readonly #queue: Array<{ readonly bytes: number; readonly grant: () => void }> = []
  #nudge: NodeJS.Timeout | undefined
  readonly #patience: number

  /** `patience` in milliseconds: how long nothing may be given back before the next in line goes beyond the budget. */
  constructor(bytes: number, patience = 50) {
    this.#free = bytes
    this.#patience = patience
  }

  /** `undefined`: granted. Else a promise of the grant. Every grant is to be given back. */
  take(bytes: number): Promise<void> | undefined {
    if (this.#queue.length === 0 && this.#free >= bytes) {
      this.#free -= bytes
      return undefined
    }
    return new Promise((grant) => {
      this.#queue.push({ bytes, grant })
      this.#watch()
    })
  }

  give(bytes: number): void {
    this.#free += bytes
    let first = this.#queue[0]
    while (first !== undefined && this.#free >= first.bytes) {
      this.#pass()
      first = this.#queue[0]
    }
    clearTimeout(this.#nudge)
    this.#nudge = undefined
    this.#watch()
  }

  #pass(): void {
    const first = this.#queue.shift()
    if (first === undefined) return
    this.#free -= first.bytes
    first.grant()
  }

  #watch(): void {
    if (this.#queue.length === 0 || this.#nudge !== undefined) return
    this.#nudge = setTimeout(() => {
      this.#nudge = undefined
      this.#pass()
      this.#watch()
    }, this.#patience)
  }
}
