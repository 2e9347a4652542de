import { Socket } from "node:net"
import pg from "pg"
import { Liveness, patienceMillis } from "./Liveness.ts"
import { preparedName } from "./preparedNames.ts"

/** Longer than the server lets any statement run: an answer that is not there then was lost on the way. Milliseconds. */
const lostMillis = 7000

/** SQLSTATE class 57P: the server says that it goes away or is not there yet. Any other answer is a sign of life. */
const isLeaving = (error: pg.DatabaseError) => error.code?.startsWith("57P") === true

/** Asks on a connection of its own, so that neither a full pool nor a queue of locks is in the way. */
const ping = (options: pg.ClientConfig) => async (signal: AbortSignal) => {
  const socket = new Socket()
  const client = new pg.Client({ ...options, stream: () => socket })
  client.on("error", () => {})
  signal.addEventListener("abort", () => socket.destroy())
  try {
    await client.connect()
    await client.query("select 1")
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || isLeaving(error)) throw error
  } finally {
    socket.destroy()
  }
}

/** A client whose connection breaks when a statement is late and the server does not live. */
const watchedBy = (liveness: Liveness, prepares: boolean) =>
  class extends pg.Client {
    /** Since when statements have been out. */
    #since: number | undefined
    #timer: NodeJS.Timeout | undefined

    constructor(options?: pg.ClientConfig) {
      super(options)
      this.on("drain", () => {
        this.#since = undefined
        liveness.alive()
      })
    }

    // Every form that Client.query has goes through; statements with parameters are prepared.
    override query = ((...args: [any, any, any]) => {
      this.#since ??= performance.now()
      this.#lookIn(patienceMillis)
      const [text, values, done] = args
      const name = prepares && typeof text === "string" && values?.length > 0 ? preparedName(text) : undefined
      return name === undefined ? super.query(...args) : super.query({ name, text, values }, done)
    }) as pg.Client["query"]

    readonly #look = async (): Promise<void> => {
      this.#timer = undefined
      const since = this.#since
      if (since === undefined) return
      const out = performance.now() - since
      let wait = patienceMillis
      if (out < patienceMillis) wait -= out
      else if (out > lostMillis || !(await liveness.check())) {
        // What went out meanwhile on the same connection is as lost.
        if (this.#since === since) return void this.#connection.stream.destroy(liveness.noAnswer())
      }
      this.#lookIn(wait)
    }

    /** One timer for all statements: they come by the thousand, and hardly any is late. */
    #lookIn(millis: number): void {
      if (this.#timer === undefined) this.#timer = setTimeout(this.#look, millis).unref()
    }

    get #connection(): { readonly stream: Socket } {
      return (this as unknown as { readonly connection: { readonly stream: Socket } }).connection
    }
  }

/**
 * A pool that does not let its callers hang on a server that is away: a statement fails within two seconds, at once when
 * the server is known to be away; and one that waits for a lock on a live server goes on waiting.
 */
export class ImpatientPool extends pg.Pool {
  readonly #liveness: Liveness

  /** `prepares`: statements with parameters are prepared by name. */
  constructor(options: pg.PoolConfig, prepares: boolean) {
    const liveness = new Liveness("Postgres", ping(options))
    super({ ...options, Client: watchedBy(liveness, prepares) })
    this.#liveness = liveness
  }

  override connect(): Promise<pg.PoolClient>
  override connect(done: Parameters<pg.Pool["connect"]>[0]): void
  override connect(done?: Parameters<pg.Pool["connect"]>[0]): Promise<pg.PoolClient> | void {
    if (done === undefined)
      return new Promise((resolve, reject) =>
        this.connect((error, client) => (client === undefined ? reject(error) : resolve(client))),
      )
    if (this.#liveness.away) return void process.nextTick(done, this.#liveness.noAnswer(), undefined, () => {})
    // All connections may be taken for long by others who queue for a project: whoever waits for one waits on while the
    // server lives.
    let answered = false
    const look = async (): Promise<void> => {
      const alive = await this.#liveness.check()
      if (answered) return
      if (alive) timer = setTimeout(look, patienceMillis)
      else {
        answered = true
        done(this.#liveness.noAnswer(), undefined, () => {})
      }
    }
    let timer = setTimeout(look, patienceMillis)
    super.connect((error, client, release) => {
      clearTimeout(timer)
      if (answered) return void release()
      answered = true
      if (error !== undefined) void this.#liveness.check()
      done(error, client, release)
    })
  }

  override end(): Promise<void>
  override end(done: () => void): void
  override end(done?: () => void): Promise<void> | void {
    this.#liveness.close()
    return done === undefined ? super.end() : super.end(done)
  }
}
