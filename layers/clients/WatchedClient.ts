import type { Socket } from "node:net"
import pg from "pg"
import { type Backend, ownBackend, type OwnBackend, knows, askServer, Standby } from "./Backends.ts"
import { Liveness, NoAnswer, patienceMillis } from "./Liveness.ts"
import { preparedName } from "./preparedNames.ts"
import { durable } from "./sessionOptions.ts"

/** Longer than the server lets any statement run: an answer that is not there then was lost on the way. Milliseconds. */
const lostMillis = 7000
/** How long the server's word that it knows a connection's backend is good for. */
const vouchedMillis = 500
/** A connection younger than this that finds the server read-only is kept: a new one would be no better. */
const youngMillis = 1000

/** SQLSTATE read_only_sql_transaction: the server was demoted under the connection. */
const readOnly = "25006"

/** SQLSTATE of a prepared statement whose columns are others now: a newer release has migrated the schema meanwhile. */
const changedResult = "0A000"
/** SQLSTATE of the victim of a deadlock, as a migration can come to have with a statement that takes several locks. */
const deadlock = "40P01"

/** Nothing of what was refused so was carried out, and it may well succeed when it is asked once more. */
export const isWorthOnceMore = (code: string | undefined): boolean => code === changedResult || code === deadlock

/** What the watch does with a connection of its pool. */
export interface Connection {
  /** When it was begun, by `performance.now()`. */
  readonly begun: number
  /** Undefined until the connection is made. */
  readonly backend: Backend | undefined
  vouched(at: number): void
  lose(cause: NoAnswer): void
}

/**
 * The connections of one pool, and which server is in charge of the address they were made to: the one that answered
 * whoever asked last. After a failover connections to the former server may stay open and silent, so an answer of the
 * new one is no sign of life of theirs: those that the server in charge does not know are broken.
 */
export class Watch {
  readonly liveness: Liveness
  readonly connections = new Set<Connection>()
  #inCharge: { readonly server: string; readonly asked: number } | undefined

  constructor(options: pg.ClientConfig) {
    this.liveness = new Liveness("Postgres", async (signal) => {
      const asked = performance.now()
      const backends = [...this.connections].filter(({ backend }) => backend !== undefined)
      const pids = backends.flatMap(({ backend }) => (backend === undefined ? [] : [backend.pid]))
      const answer = await askServer(options, pids, signal)
      if (answer === undefined || !this.answered(answer.server, asked)) return
      for (const connection of backends)
        if (connection.backend !== undefined && knows(answer, connection.backend)) connection.vouched(asked)
        else if (this.connections.has(connection))
          connection.lose(new NoAnswer("Postgres does not know this connection any more"))
    })
  }

  /**
   * A server answered what was begun at `asked`. Returns whether it is the one in charge; if it is so since now, every
   * connection begun before that leads elsewhere or is not made yet is broken.
   */
  answered(server: string, asked: number): boolean {
    const before = this.#inCharge
    if (before !== undefined && asked < before.asked) return server === before.server
    this.#inCharge = { server, asked }
    if (before === undefined || before.server === server) return true
    for (const connection of this.connections)
      if (connection.begun < asked && connection.backend?.server !== server)
        connection.lose(new NoAnswer("Postgres was replaced by another server at its address"))
    return true
  }
}

/**
 * A client whose connection breaks when it or a statement is late and the server does not live or does not know the
 * connection. `prepares`: statements with parameters are prepared by name.
 */
export const watchedBy = (watch: Watch, prepares: boolean) =>
  class extends pg.Client implements Connection {
    readonly begun = performance.now()
    #backend: Backend | undefined
    #vouchedAt = Number.NEGATIVE_INFINITY
    /** It has prepared statements that the schema has left behind: to be used no longer. */
    #outdated = false
    /** Since when the connection is awaited, or statements have been out. */
    #since: number | undefined
    #timer: NodeJS.Timeout | undefined

    constructor(options?: pg.ClientConfig) {
      super(options)
      // Whoever waits for a statement is told of a lost connection; without a listener it would end the process.
      this.on("error", () => {})
      this.on("drain", () => {
        this.#since = undefined
        if (this.#backend !== undefined) watch.liveness.alive()
      })
      this.once("end", () => {
        this.#since = undefined
        watch.connections.delete(this)
      })
      this.#connection.on("errorMessage", ({ code }) => {
        if (code !== readOnly || performance.now() - this.begun < youngMillis) return
        // After the statement's caller was told.
        setImmediate(() => this.lose(new NoAnswer("Postgres takes no writes any more")))
      })
    }

    get backend(): Backend | undefined {
      return this.#backend
    }

    vouched(at: number): void {
      this.#vouchedAt = at
    }

    lose(cause: NoAnswer): void {
      this.#since = undefined
      watch.connections.delete(this)
      this.#connection.stream.destroy(cause)
    }

    override connect(): Promise<this>
    override connect(done: (error: Error) => void): void
    override connect(done?: (error: Error) => void): Promise<this> | void {
      if (done === undefined)
        return new Promise((resolve, reject) =>
          this.connect((error: Error | null | undefined) => (error ? reject(error) : resolve(this))),
        )
      const settle = done as (error?: Error | null) => void
      watch.connections.add(this)
      this.#since = performance.now()
      this.#lookIn(patienceMillis)
      super.connect((error: Error | null) => {
        if (error) return this.#refused(settle, error)
        super.query<OwnBackend>(`${ownBackend}, ${durable} as made_durable`, (fault, result) => {
          const [row] = fault ? [] : result.rows
          if (row === undefined) return this.#refused(settle, fault)
          if (row.standby) return this.#refused(settle, new Standby())
          if (!watch.answered(row.server, this.begun)) return this.#refused(settle, watch.liveness.noAnswer())
          this.#since = undefined
          this.#backend = row
          settle()
        })
      })
    }

    #refused(settle: (error: Error) => void, error: Error): void {
      this.#since = undefined
      watch.connections.delete(this)
      this.#connection.stream.destroy()
      settle(error)
    }

    // Every form that Client.query has goes through; statements with parameters are prepared.
    override query = ((...args: [any, any, any]) => {
      this.#since ??= performance.now()
      this.#lookIn(patienceMillis)
      const [text, values, done] = args
      const name = prepares && typeof text === "string" && values?.length > 0 ? preparedName(text) : undefined
      if (name === undefined || typeof done !== "function") return super.query(...args)
      return super.query({ name, text, values }, ((error: Error | null, result: pg.QueryResult) => {
        if (!(error instanceof pg.DatabaseError) || !isWorthOnceMore(error.code)) return done(error, result)
        if (error.code === changedResult) this.#outdated = true
        // A transaction is lost with it, and is its owner's to repeat.
        if (this.getTransactionStatus() === "I") super.query(...args)
        else done(error, result)
      }) as () => void)
    }) as pg.Client["query"]

    /** Calls `done` once nothing runs here any more, with whether or why the connection is of no use after that. */
    settle(done: (broken: Error | boolean) => void): void {
      if (this.#since === undefined) return done(this.#outdated)
      const drained = () => {
        this.off("error", lost)
        done(this.#outdated)
      }
      const lost = (error: Error) => {
        this.off("drain", drained)
        done(error)
      }
      this.once("drain", drained).once("error", lost)
    }

    // Hidden from the driver above: it would cancel the statement of a caller who left by the connection's number,
    // whatever runs there by the time the server gets to know. See `settle` instead.
    get processID(): number | undefined {
      return undefined
    }
    set processID(_: number | undefined) {}

    readonly #look = async (): Promise<void> => {
      this.#timer = undefined
      const since = this.#since
      if (since === undefined) return
      const out = performance.now() - since
      if (out < patienceMillis) return this.#lookIn(patienceMillis - out)
      const known = performance.now() - this.#vouchedAt < vouchedMillis || (await watch.liveness.ask())
      // What went out meanwhile on the same connection is as lost.
      if ((!known || out > lostMillis) && this.#since === since) return this.lose(watch.liveness.noAnswer())
      this.#lookIn(patienceMillis)
    }

    /** One timer for all statements: they come by the thousand, and hardly any is late. */
    #lookIn(millis: number): void {
      if (this.#timer === undefined) this.#timer = setTimeout(this.#look, millis).unref()
    }

    get #connection(): {
      readonly stream: Socket
      on(event: "errorMessage", listener: (error: pg.DatabaseError) => void): void
    } {
      return (this as unknown as { readonly connection: any }).connection
    }
  }
