/** How long an answer may take before the server is asked whether it lives, in milliseconds. */
export const patienceMillis = 1100
/** How long it has to say so. The two together are what a caller waits at the most for a server that is away. */
const pingMillis = 700
const pingSteps = 7
/** How long a ping waits for its answer in all, for a busy server answers late. */
const lateMillis = 3000
/**
 * A server that is away is asked again so long after a refusal, and so long after a ping that is still without an
 * answer: that one may have reached a server which will never give it, while its address leads to another one by now.
 */
const againMillis = 250
const silentMillis = 500
/** How long a sign of life is believed. */
const believedMillis = 500

const pause = (millis: number) => new Promise<false>((resolve) => setTimeout(resolve, millis, false).unref())

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

  /** Something came from the server. */
  alive(): void {
    this.#aliveAt = performance.now()
    this.#away = false
  }

  /** Whether the server lives; asked once for all who want to know at the same time. */
  check(): Promise<boolean> {
    if (!this.#away && performance.now() - this.#aliveAt < believedMillis) return Promise.resolve(true)
    return this.ask()
  }

  /** The same by a ping, whatever else came from the server. */
  ask(): Promise<boolean> {
    if (this.#away) return Promise.resolve(false)
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    return this.#asking
  }

  /** Ends the questions. */
  close(): void {
    this.#closed = true
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

  /** Whether a ping comes back in time. If not, the server is away until one does, this one or a later one. */
  async #ask(): Promise<boolean> {
    const began = performance.now()
    const pong = this.#pong()
    const verdict = await Promise.race([pong, this.#late()])
    // Perhaps another call was answered meanwhile.
    if (verdict || this.#aliveAt > began) return true
    this.#away = true
    void this.#await(pong)
    return false
  }

  async #await(first: Promise<boolean>): Promise<void> {
    for (let pong = first; this.#away && !this.#closed; pong = this.#pong()) {
      if (await Promise.race([pong, pause(silentMillis)])) return
      await pause(againMillis)
    }
  }

  async #pong(): Promise<boolean> {
    const giveUp = new AbortController()
    const timer = setTimeout(() => giveUp.abort(), lateMillis).unref()
    try {
      await this.#ping(giveUp.signal)
      this.alive()
      return true
    } catch {
      return false
    } finally {
      clearTimeout(timer)
      giveUp.abort()
    }
  }

  /** In steps, so that a pause of this very process costs one of them, and not the server's whole time. */
  async #late(): Promise<false> {
    for (let step = 0; step < pingSteps; step++) await pause(pingMillis / pingSteps)
    return false
  }
}
