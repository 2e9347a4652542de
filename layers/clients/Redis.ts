import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { Redis as IORedis } from "ioredis"
import type { Duplex } from "node:stream"
import { DependencyUnavailable } from "../../services/Unavailable.ts"

/** A fault of Redis, folded; `operation` says where, e.g. `QuotaCounters.reserve`. */
export const redisUnavailable = (operation: string) => (cause: unknown) =>
  new DependencyUnavailable({ dependency: "redis", operation, cause })

/**
 * The process's connections to Redis. Commands are never queued while it is away: the first ones fail after 1.2 s without
 * an answer, those that come later at once, until a new connection was answered.
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
    /** A connection of one's own, for commands that block for up to 1 s; closed with the scope. */
    readonly dedicated: Effect.Effect<IORedis, DependencyUnavailable, Scope.Scope>
  }
>() {}

/** How long an answer may take, in milliseconds; Redis does one thing at a time, so that one late answer is all late. */
const commandTimeout = 1200
/** For commands that block, by agreement for 1 s at most: how long a peer may be silent before it counts as gone. */
const blockingTimeout = 4000

/** Gives a connection up on which an answer is late: those behind it would each wait for as long. */
class Impatient extends IORedis {
  override sendCommand(...args: Parameters<IORedis["sendCommand"]>): unknown {
    const [command] = args
    command.promise.catch((error: Error) => {
      if (error.message === "Command timed out" && this.status !== "end") this.disconnect(true)
    })
    this.#cork()
    return super.sendCommand(...args)
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

const make = (options: { readonly url: Redacted.Redacted }) =>
  Effect.gen(function* () {
    const connect = (extra: { readonly commandTimeout?: number } = {}) =>
      new Impatient(Redacted.value(options.url), {
        lazyConnect: true,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        connectTimeout: 2000,
        // A peer that is silent does not take its leave either.
        disconnectTimeout: 100,
        keepAlive: 3000,
        retryStrategy: (times) => Math.min(1000, 50 * times),
        ...extra,
      })
    const open = (make: () => IORedis) =>
      Effect.acquireRelease(
        Effect.tryPromise({
          try: async () => {
            const redis = make()
            // Without a listener a lost connection would end the process; each command reports its own fault.
            redis.on("error", () => {})
            try {
              await redis.connect()
              return redis
            } catch (error) {
              redis.disconnect()
              throw error
            }
          },
          catch: redisUnavailable("connect"),
        }),
        (redis) => Effect.sync(() => redis.disconnect()),
      )

    const commands = yield* open(() => connect({ commandTimeout }))
    let known: Promise<string> | undefined
    const forget = () => {
      known = undefined
    }
    commands.on("close", forget)
    commands.on("connect", forget)
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

    const policy = yield* Effect.tryPromise(() => commands.config("GET", "maxmemory-policy")).pipe(
      Effect.map((answer) => (Array.isArray(answer) ? answer[1] : undefined)),
      Effect.orElseSucceed(() => undefined),
    )
    if (policy === undefined)
      yield* Effect.logWarning("Redis does not tell its maxmemory-policy; it must be noeviction.")
    else if (policy !== "noeviction")
      yield* Effect.fail(redisUnavailable("maxmemory-policy, which must be noeviction")(new Error(String(policy))))
    return Redis.of({ commands, runId, dedicated: open(() => connect({ commandTimeout: blockingTimeout })) })
  })

export const layer = (options: { readonly url: Redacted.Redacted }) => Layer.scoped(Redis, make(options))
