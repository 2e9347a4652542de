/** How long an answer may take before the server is asked whether it lives, in milliseconds. */
export const patienceMillis = 1100
/** How long it has to say so. The two together are what a caller waits at the most for a server that is away. */
const pingMillis = 600
/** How often a server that was found away is asked again. */
const againMillis = 250
/** How long a sign of life is believed. */
const believedMillis = 500

/** The server did not answer, neither the call nor the question whether it lives. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer"
}

/**
 * Tells a slow server from one that is away. A caller may rightly wait long: in a project's queue of commits, or for a
 * large part on a slow line. So nothing is ended by a short timeout; whoever waits asks here, and gives up only when the
 * server does not answer a ping on a connection of its own either. From then on until a ping comes back, `away` says
 * so, and callers fail at once instead of piling up.
 */
export class Liveness {
  readonly #name: string
  readonly #ping: (signal: AbortSignal) => Promise<void>
  #away = false
  #aliveAt = Number.NEGATIVE_INFINITY
  #asking: Promise<boolean> | undefined
  #again: NodeJS.Timeout | undefined
  #closed = false

  /** `ping` resolves when the server said anything, and lets go of its connection when the signal aborts. */
  constructor(name: string, ping: (signal: AbortSignal) => Promise<void>) {
    this.#name = name
    this.#ping = ping
  }

  get away(): boolean {
    return this.#away
  }

  noAnswer(): NoAnswer {
    return new NoAnswer(`${this.#name} does not answer`)
  }

  /** Whether the server lives; asked once for all who want to know at the same time. */
  check(): Promise<boolean> {
    if (!this.#away && performance.now() - this.#aliveAt < believedMillis) return Promise.resolve(true)
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    return this.#asking
  }

  /** Ends the questions. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#again)
  }

  /** The work's result; while it is late and the server does not live, `giveUp` is called, which is to make it reject. */
  async guard<A>(work: Promise<A>, giveUp: (cause: NoAnswer) => void): Promise<A> {
    let done = false
    const look = async (): Promise<void> => {
      const alive = await this.check()
      if (done) return
      if (alive) timer = setTimeout(look, patienceMillis)
      else giveUp(this.noAnswer())
    }
    let timer = setTimeout(look, patienceMillis)
    try {
      return await work
    } finally {
      done = true
      clearTimeout(timer)
    }
  }

  async #ask(): Promise<boolean> {
    const giveUp = new AbortController()
    const answer = this.#ping(giveUp.signal).then(
      () => true,
      () => false,
    )
    const late = new Promise<boolean>((resolve) => {
      // One more turn of the loop: after a pause of this very process the answer may lie there unread.
      const timer = setTimeout(() => setImmediate(() => setImmediate(() => resolve(false))), pingMillis)
      void answer.then(() => clearTimeout(timer))
    })
    const alive = await Promise.race([answer, late])
    giveUp.abort()
    if (alive) this.#aliveAt = performance.now()
    this.#away = !alive
    if (!alive && !this.#closed) this.#again ??= setTimeout(() => this.#askAgain(), againMillis).unref()
    return alive
  }

  #askAgain(): void {
    this.#again = undefined
    void this.check()
  }
}
