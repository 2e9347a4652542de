import { Chunk, Effect, Layer, Option, Stream } from "effect"
import { type BusEntry, EventBus } from "../../services/EventBus.ts"
import { Redis, redisUnavailable } from "../clients/Redis.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/**
 * KEYS: 1 the stream. ARGV: 1 the expected last sequence, 2 the maximal length, then five of each entry: sequence, id,
 * type, project, payload. Adds all of them if the stream's last generated id is `<expected>-0` (a stream that is not
 * there counts as 0), else none. Returns {1 if they were added else 0, the last generated sequence, as text}.
 */
const append = `
local last = '0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '^(%d+)-') end
  end
end
if last ~= ARGV[1] then return {0, last} end
for i = 3, #ARGV, 5 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[i] .. '-0',
    'id', ARGV[i + 1], 'type', ARGV[i + 2], 'project', ARGV[i + 3], 'payload', ARGV[i + 4])
  last = ARGV[i]
end
return {1, last}
`

const toEntry = ([id, fields]: [string, Array<string>]): BusEntry => {
  const value = (name: string) => fields[fields.indexOf(name) + 1] ?? ""
  return {
    sequence: Number(id.split("-")[0]),
    id: value("id"),
    type: value("type"),
    project: value("project"),
    payload: value("payload"),
  }
}

const make = (options: { readonly streamKey: string; readonly maxLength: number }) =>
  Effect.gen(function* () {
    const redis = yield* Redis
    const { commands } = redis
    const key = options.streamKey
    commands.defineCommand("event_append", { numberOfKeys: 1, lua: append })
    const run = (args: ReadonlyArray<string | number>) =>
      (
        commands as unknown as { event_append(...args: Array<string | number>): Promise<[number, string]> }
      ).event_append(key, ...args)

    return EventBus.of({
      maxLength: options.maxLength,
      top: Effect.tryPromise({
        // Appending nothing to a stream that cannot match tells its last generated sequence.
        try: async () => Number((await run([-1, options.maxLength]))[1]),
        catch: redisUnavailable("EventBus.top"),
      }),
      append: traced("EventBus.append")(function* (expectedTop, entries) {
        const [added, top] = yield* Effect.tryPromise({
          try: () =>
            run([
              expectedTop,
              options.maxLength,
              ...entries.flatMap(({ sequence, id, type, project, payload }) => [sequence, id, type, project, payload]),
            ]),
          catch: redisUnavailable("EventBus.append"),
        })
        return added === 1 ? { _tag: "Appended" } : { _tag: "Elsewhere", top: Number(top) }
      }),
      idAt: traced("EventBus.idAt")(function* (sequence) {
        const found = yield* Effect.tryPromise({
          try: () => commands.xrange(key, `${sequence}-0`, `${sequence}-0`),
          catch: redisUnavailable("EventBus.idAt"),
        })
        return found[0] && toEntry(found[0]).id
      }),
      standing: traced("EventBus.standing")(function* (from, limit) {
        const found = yield* Effect.tryPromise({
          try: () => commands.xrange(key, `${from}-0`, "+", "COUNT", limit),
          catch: redisUnavailable("EventBus.standing"),
        })
        return found.map(toEntry).map(({ id, sequence }) => ({ id, sequence }))
      }),
      subscribe: (after) =>
        Stream.unwrapScoped(
          Effect.map(redis.dedicated, (connection) =>
            Stream.paginateChunkEffect(after, (last) =>
              Effect.tryPromise({
                try: () => connection.xread("COUNT", 100, "BLOCK", 1000, "STREAMS", key, `${last}-0`),
                catch: redisUnavailable("EventBus.subscribe"),
              }).pipe(
                Effect.map((found) => {
                  const entries = (found?.[0]?.[1] ?? []).map(toEntry)
                  return [Chunk.fromIterable(entries), Option.some(entries.at(-1)?.sequence ?? last)] as const
                }),
              ),
            ),
          ),
        ),
      ping: redis.ping,
    })
  })

/** The stream of the trusted plane: one Redis stream under `streamKey`, trimmed to about `maxLength` entries. */
export const layer = (options: { readonly streamKey: string; readonly maxLength: number }) =>
  Layer.effect(EventBus, make(options))
