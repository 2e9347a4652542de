import * as SqlClient from "@effect/sql/SqlClient"
import { Chunk, Effect, Layer, Option, PubSub, Queue, Schema, Stream } from "effect"
import { EventBus } from "../../services/EventBus.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const Row = Schema.Struct({
  sequence: Schema.Int,
  event_id: Schema.String,
  type: Schema.String,
  project: Schema.String,
  payload: Schema.String,
})
const decode = Schema.decodeUnknown(Schema.Array(Row))

/** How long a subscriber waits for a wake-up before it looks by itself. */
const poll = "250 millis"

const make = (options: { readonly maxLength: number }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const appended = yield* PubSub.sliding<void>(1)

    const head = (lock: boolean) =>
      Effect.map(
        lock
          ? sql<{ readonly last: number }>`select last from event_log_head for update`
          : sql<{ readonly last: number }>`select last from event_log_head`,
        ([row]) => Number(row?.last ?? 0),
      )
    const read = (after: number) =>
      sql`select sequence, event_id, type, project, payload from event_log
        where sequence > ${after} order by sequence limit 100`.pipe(
        Effect.flatMap((rows) => Effect.orDie(decode(rows))),
        Effect.map((rows) => rows.map(({ event_id, ...entry }) => ({ ...entry, id: event_id }))),
        Effect.catchTag("SqlError", unavailable("EventBus.subscribe")),
      )

    return EventBus.of({
      maxLength: options.maxLength,
      top: Effect.catchTag(head(false), "SqlError", unavailable("EventBus.top")),
      append: traced("EventBus.append")(
        function* (expectedTop, entries) {
          const top = yield* sql.withTransaction(
            Effect.gen(function* () {
              const last = yield* head(true)
              const newest = entries.at(-1)?.sequence
              if (last !== expectedTop) return last
              if (newest === undefined) return undefined
              yield* sql`insert into event_log ${sql.insert(
                entries.map(({ sequence, id, type, project, payload }) => ({
                  sequence,
                  event_id: id,
                  type,
                  project,
                  payload,
                })),
              )}`
              yield* sql`update event_log_head set last = ${newest}`
              yield* sql`delete from event_log where sequence <= ${newest - options.maxLength}`
              return undefined
            }),
          )
          if (top !== undefined) return { _tag: "Elsewhere", top } as const
          yield* PubSub.publish(appended, undefined)
          return { _tag: "Appended" } as const
        },
        Effect.catchTag("SqlError", unavailable("EventBus.append")),
      ),
      idAt: traced("EventBus.idAt")(
        function* (sequence) {
          const [row] = yield* sql<{
            readonly event_id: string
          }>`select event_id from event_log where sequence = ${sequence}`
          return row?.event_id
        },
        Effect.catchTag("SqlError", unavailable("EventBus.idAt")),
      ),
      standing: traced("EventBus.standing")(
        function* (from, limit) {
          const rows = yield* sql<{ readonly sequence: number; readonly event_id: string }>`
            select sequence, event_id from event_log where sequence >= ${from} order by sequence limit ${limit}`
          return rows.map(({ event_id, sequence }) => ({ sequence: Number(sequence), id: event_id }))
        },
        Effect.catchTag("SqlError", unavailable("EventBus.standing")),
      ),
      subscribe: (after) =>
        Stream.unwrapScoped(
          Effect.map(PubSub.subscribe(appended), (bell) =>
            Stream.paginateChunkEffect(after, (last) =>
              Effect.gen(function* () {
                const entries = yield* read(last)
                if (entries.length === 0) yield* Effect.timeoutOption(Queue.take(bell), poll)
                return [Chunk.fromIterable(entries), Option.some(entries.at(-1)?.sequence ?? last)] as const
              }),
            ),
          ),
        ),
      ping: sql`select 1`.pipe(Effect.asVoid, Effect.catchTag("SqlError", unavailable("EventBus.ping"))),
    })
  })

/** The stream of the embedded node: a table in its database, trimmed to `maxLength` entries. */
export const layer = (options: { readonly maxLength: number }) => Layer.effect(EventBus, make(options))
