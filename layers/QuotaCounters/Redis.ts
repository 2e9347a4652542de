import { Effect, Layer } from "effect"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { Redis, redisUnavailable } from "../clients/Redis.ts"
import { missing, type RawCounters, rebuilding } from "./Rebuilding.ts"
import * as scripts from "./scripts.ts"

/** How long a reservation lives unless it is renewed, in milliseconds. */
const lifetime = 45_000

const keysOf = (project: string) => [
  `quota:{${project}}`,
  `quota:{${project}}:reservations`,
  `quota:{${project}}:expiries`,
  `quota:{${project}}:early`,
]

const granted = (reply: ReadonlyArray<unknown>) =>
  reply[0] === 1
    ? ({ _tag: "Granted", bytes: Number(reply[1]) } as const)
    : ({
        _tag: "Refused",
        usedBytes: Number(reply[1]),
        reservedBytes: Number(reply[2]),
        limitBytes: Number(reply[3]),
      } as const)

const make = Effect.gen(function* () {
  const redis = yield* Redis
  const { commands } = redis
  for (const [name, lua] of Object.entries(scripts)) commands.defineCommand(`quota_${name}`, { numberOfKeys: 4, lua })

  const call = <A>(
    name: keyof typeof scripts,
    project: string,
    args: ReadonlyArray<string | number>,
    answer: (reply: any) => A,
  ) =>
    Effect.flatMap(redis.runId, (run) =>
      Effect.tryPromise({
        try: async () => {
          const script = (commands as unknown as Record<string, (...args: Array<string | number>) => Promise<unknown>>)[
            `quota_${name}`
          ]
          const reply = await script?.call(commands, ...keysOf(project), run, ...args)
          return reply === null || reply === undefined ? missing : answer(reply)
        },
        catch: redisUnavailable(`QuotaCounters.${name}`),
      }),
    )

  const raw: RawCounters = {
    reserve: (project, uploadId, need, want, superseded) =>
      call("reserve", project, [uploadId, need, want, lifetime, superseded ?? ""], granted),
    extend: (project, uploadId, need, want) =>
      call("extend", project, [uploadId, need, want, lifetime], (reply) =>
        reply[0] === 2 ? ({ _tag: "Lost" } as const) : granted(reply),
      ),
    renew: (project, uploadId, bytes) => call("renew", project, [uploadId, bytes, lifetime], () => true as const),
    settle: (project, uploadId, usage) =>
      call(
        "settle",
        project,
        [uploadId ?? "", usage?.usedBytes ?? "", usage?.limitBytes ?? "", usage?.version ?? ""],
        () => true as const,
      ),
    read: (project) =>
      call("read", project, [], (reply) => ({
        usedBytes: Number(reply[0]),
        reservedBytes: Number(reply[1]),
        limitBytes: Number(reply[2]),
        version: Number(reply[3]),
      })),
    load: (project, { reservations, usage }, unlessMoved) =>
      Effect.asVoid(
        call(
          "load",
          project,
          [
            usage.usedBytes,
            usage.limitBytes,
            usage.version,
            unlessMoved ?? "",
            lifetime,
            ...reservations.flatMap(({ uploadId, bytes }) => [uploadId, bytes]),
          ],
          () => true,
        ),
      ),
    ping: redis.ping,
  }
  return yield* rebuilding(raw)
})

/** One Lua script an operation; see scripts.ts for keys, arguments and the invariant. */
export const layer = Layer.effect(QuotaCounters, make)
