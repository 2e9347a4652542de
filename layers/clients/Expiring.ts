/**
 * Values that are good for a time, e.g. answers of the database. It holds `most` of them: the oldest goes for the next one,
 * so that no stream of made-up keys can fill the memory. Times are milliseconds of the caller's clock.
 */
export class Expiring<A> {
  readonly #most: number
  readonly #entries = new Map<string, { readonly value: A; readonly until: number }>()

  constructor(most: number) {
    this.#most = most
  }

  /** Undefined: there was none, or its time is over. */
  get(key: string, now: number): A | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined || entry.until > now) return entry?.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: A, until: number): void {
    this.#entries.delete(key)
    const [oldest] = this.#entries.size < this.#most ? [] : this.#entries.keys()
    if (oldest !== undefined) this.#entries.delete(oldest)
    this.#entries.set(key, { value, until })
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  deleteWhere(gone: (value: A) => boolean): void {
    for (const [key, { value }] of this.#entries) if (gone(value)) this.#entries.delete(key)
  }
}
