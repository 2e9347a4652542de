interface Waiting {
  readonly owner: object
  readonly bytes: number
  readonly grant: () => void
}

/**
 * The bytes of parts that all writers of a process may hold in memory together, granted in order as bytes arrive. All of
 * it may end up in parts that are not full yet, so that nobody could go on: hence a reserve of one part, which a single
 * owner at a time, the one who waits longest, may use until it gives something back. At the most the budget, the reserve
 * and one chunk are held.
 */
export class PartBudget {
  #free: number
  readonly #reserve: number
  readonly #queue: Array<Waiting> = []
  #favoured: object | undefined

  /** Both in bytes; `reserve` is the size of a part. */
  constructor(bytes: number, reserve: number) {
    this.#free = bytes
    this.#reserve = reserve
  }

  /**
   * `undefined`: granted. Else a promise of the grant, to be awaited before the owner takes again. Every grant is to be
   * given back, by the same owner.
   */
  take(owner: object, bytes: number): Promise<void> | undefined {
    const inTurn = this.#queue.length === 0 && this.#free >= bytes
    if (inTurn || (owner === this.#favoured && this.#free > -this.#reserve)) {
      this.#free -= bytes
      return undefined
    }
    return new Promise((grant) => {
      this.#queue.push({ owner, bytes, grant })
      this.#serve()
    })
  }

  /** Ends the owner's claim to the reserve, also with no bytes to give back. */
  give(owner: object, bytes: number): void {
    this.#free += bytes
    if (owner === this.#favoured) this.#favoured = undefined
    this.#serve()
  }

  #serve(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      if (this.#free >= first.bytes) {
        this.#grant(0)
        continue
      }
      this.#favoured ??= first.owner
      const favoured = this.#favoured
      const index = this.#queue.findIndex(({ owner }) => owner === favoured)
      if (index < 0 || this.#free <= -this.#reserve) return
      this.#grant(index)
    }
  }

  #grant(index: number): void {
    const [waiting] = this.#queue.splice(index, 1)
    if (waiting === undefined) return
    this.#free -= waiting.bytes
    waiting.grant()
  }
}
