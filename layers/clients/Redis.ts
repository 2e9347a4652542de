import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { type Command, Redis as IORedis, type RedisOptions } from "ioredis"
import type { Duplex } from "node:stream"
import { DependencyUnavailable } from "../../services/Unavailable.ts"

/** A fault of Redis, folded; `operation` says where, e.g. `QuotaCounters.reserve`. */
export const redisUnavailable = (operation: string) => (cause: unknown) =>
  new DependencyUnavailable({ dependency: "redis", operation, cause })

/**
 * The process's connections to Redis. Commands are never queued while it is away: the first ones fail after 1.2 s without
 * an answer, those that come later at once, until a new connection was answered. Redis may be away at the start.
 */
export class Redis extends Context.Tag("layers/clients/Redis")<
  Redis,
  {
    readonly commands: IORedis
    /**
     * Redis's run id as of the current connection. It changes with every start of the server, so that counters of
     * another incarnation (a stale snapshot, a failed-over copy) are recognised.
     */
    readonly runId: Effect.Effect<string, DependencyUnavailable>
    /**
     * Fails while Redis is away, and while it may evict: entries and counters would vanish, which costs refills and
     * rebuilding, but no truth. So publishing goes on, and an operator is told.
     */
    readonly ping: Effect.Effect<void, DependencyUnavailable>
    /** A connection of one's own, for commands that block for up to 1 s; closed with the scope. */
    readonly dedicated: Effect.Effect<IORedis, DependencyUnavailable, Scope.Scope>
  }
>() {}

/** How long an answer may take, in milliseconds; Redis does one thing at a time, so that one late answer is all late. */
const commandTimeout = 1200
/** For commands that block, by agreement for 1 s at most: how long a peer may be silent before it counts as gone. */
const blockingTimeout = 4000

/** How much of these times is left to an answer after a pause of this process. */
const graceMillis = 100

/** Gives a connection up on which an answer is late: those behind it would each wait for as long. */
class Impatient extends IORedis {
  readonly #answerMillis: number

  constructor(url: string, options: RedisOptions, answerMillis: number) {
    super(url, options)
    this.#answerMillis = answerMillis
  }

  override sendCommand(...args: Parameters<IORedis["sendCommand"]>): unknown {
    const [command] = args
    this.#limit(command)
    this.#cork()
    return super.sendCommand(...args)
  }

  /** The client's own limit would take a pause of this very process for the server's. */
  #limit(command: Command): void {
    const late = () => {
      if (command.isResolved) return
      command.reject(new Error("Command timed out"))
      if (this.status !== "end") this.disconnect(true)
    }
    // In two steps: after a pause the command may not even be sent, or its answer lie there unread.
    let timer = setTimeout(() => {
      timer = setTimeout(late, graceMillis)
    }, this.#answerMillis - graceMillis)
    const done = () => clearTimeout(timer)
    command.promise.then(done, done)
  }

  /** What one turn of the event loop sends goes out in one write. */
  #cork(): void {
    const { stream } = this as unknown as { readonly stream?: Duplex }
    if (stream === undefined || stream.writableCorked > 0) return
    stream.cork()
    setImmediate(() => stream.uncork())
  }
}

const field = (info: string, name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]

/** Answers that no waiting cures: the credentials of REDIS_URL are wrong. */
const isRefusal = (fault: Error | undefined) =>
  fault !== undefined && /^(WRONGPASS|NOAUTH|NOPERM)\b/.test(fault.message)

/** What the server's `maxmemory-policy` is; undefined when it does not tell. */
const askPolicy = (commands: IORedis): Effect.Effect<string | undefined> =>
  Effect.tryPromise(() => commands.config("GET", "maxmemory-policy")).pipe(
    Effect.map((answer) => (Array.isArray(answer) ? String(answer[1]) : undefined)),
    Effect.orElseSucceed(() => undefined),
  )

const evicting = (policy: string) =>
  redisUnavailable("maxmemory-policy, which must be noeviction")(new Error(`maxmemory-policy is ${policy}`))

const make = (options: { readonly url: Redacted.Redacted }) =>
  Effect.gen(function* () {
    const connection = (timeout: number) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const settings: RedisOptions = {
            lazyConnect: true,
            enableOfflineQueue: false,
            maxRetriesPerRequest: 0,
            connectTimeout: 2000,
            // A peer that is silent does not take its leave either.
            disconnectTimeout: 100,
            keepAlive: 3000,
            retryStrategy: (times) => Math.min(1000, 50 * times),
          }
          const redis = new Impatient(Redacted.value(options.url), settings, timeout)
          // Without a listener a lost connection would end the process; each command reports its own fault.
          redis.on("error", () => {})
          return redis
        }),
        (redis) => Effect.sync(() => redis.disconnect()),
      )
    const connect = (redis: IORedis) =>
      Effect.tryPromise({ try: () => redis.connect(), catch: redisUnavailable("connect") })
    const dedicated = Effect.tap(connection(blockingTimeout), connect)

    const commands = yield* connection(commandTimeout)
    /** Why there is no connection, as far as it was told. */
    let fault: Error | undefined
    let known: Promise<string> | undefined
    /** Whether the server of this connection is known not to evict, or does not tell. */
    let judged = false
    const forget = () => {
      known = undefined
      judged = false
    }
    commands.on("close", forget)
    commands.on("connect", forget)
    commands.on("error", (error: Error) => {
      fault = error
    })
    const ask = () => {
      const asked = commands.info("server").then((info) => {
        const id = field(info, "run_id")
        if (id === undefined) throw new Error("INFO has no run_id")
        return id
      })
      known = asked
      asked.catch(() => {
        if (known === asked) known = undefined
      })
      return asked
    }
    const runId = Effect.tryPromise({ try: () => known ?? ask(), catch: redisUnavailable("run id") })

    let saidThatItDoesNotTell = false
    const judge = Effect.gen(function* () {
      if (judged) return
      const policy = yield* askPolicy(commands)
      if (policy !== undefined && policy !== "noeviction") return yield* evicting(policy)
      // Without a connection nothing was asked.
      judged = commands.status === "ready"
      if (policy !== undefined || !judged || saidThatItDoesNotTell) return
      saidThatItDoesNotTell = true
      yield* Effect.logWarning("Redis does not tell its maxmemory-policy; it must be noeviction.")
    })
    let saidThatItEvicts = false
    const ping = Effect.tryPromise({
      try: () => commands.ping(),
      catch: (error) => redisUnavailable("ping")(commands.status === "ready" ? error : (fault ?? error)),
    }).pipe(
      Effect.zipRight(
        Effect.matchEffect(judge, {
          onSuccess: () =>
            Effect.sync(() => {
              saidThatItEvicts = false
            }),
          onFailure: (error) => {
            if (saidThatItEvicts) return error
            saidThatItEvicts = true
            return Effect.zipRight(
              Effect.logError("Redis may evict what it must keep: set its maxmemory-policy to noeviction.", error),
              error,
            )
          },
        }),
      ),
    )

    // Whoever starts while Redis is away serves all that needs none; the client goes on connecting.
    yield* connect(commands).pipe(
      Effect.zipRight(judge),
      Effect.catchAll((error) => (commands.status === "ready" || isRefusal(fault) ? Effect.fail(error) : Effect.void)),
    )
    return Redis.of({ commands, runId, ping, dedicated })
  })

export const layer = (options: { readonly url: Redacted.Redacted }) => Layer.scoped(Redis, make(options))
