import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { DateTime, Effect, Layer, Schema } from "effect"
import { StaleListing, StoreGuard } from "../../services/StoreGuard.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decoder, Int8 } from "../MetadataStore/rows.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"

const decodeIdentity = decoder(Schema.Struct({ id: Schema.String, placed: Schema.Boolean }))
const decodeHold = decoder(Schema.Struct({ reason: Schema.NullOr(Schema.String), since: Schema.NullOr(Schema.Number) }))
const decodeMarks = decoder(Schema.Array(Schema.Struct({ id: Schema.String, sequence: Int8, made_at: Schema.Number })))
const decodeListing = decoder(Schema.Struct({ epoch: Int8, after: Schema.NullOr(Schema.String) }))
const decodeSequence = decoder(Schema.Struct({ last: Int8 }))
const decodeKeys = decoder(Schema.Array(Schema.Struct({ key: Schema.String })))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  /** Runs one of the statements below; `operation` names it in spans and faults. */
  const step = <A, E>(operation: string, effect: Effect.Effect<A, E | SqlError>) =>
    effect.pipe(
      Effect.catchIf(
        (error): error is Extract<E | SqlError, SqlError> => error instanceof SqlError,
        unavailable(`StoreGuard.${operation}`),
      ),
      spanned(`StoreGuard.${operation}`),
    )
  const keysOf = (keys: ReadonlyArray<string>) =>
    sql`select key from jsonb_array_elements_text(${JSON.stringify(keys)}::text::jsonb) as told(key)`

  const identified = (lock: "" | "for update") =>
    sql`select id, placed_at is not null as placed from blob_store ${sql.literal(lock)}`.pipe(
      Effect.flatMap((rows) => decodeIdentity(rows[0])),
    )

  const hold = sql`
    select hold_reason as reason, (extract(epoch from held_at) * 1000)::double precision as since from blob_store`.pipe(
    Effect.flatMap((rows) => decodeHold(rows[0])),
    Effect.map(({ reason, since }) =>
      reason === null || since === null ? undefined : { reason, since: DateTime.unsafeMake(since) },
    ),
  )

  return StoreGuard.of({
    identity: step("identity", identified("")),
    placeOnce: (place) =>
      step(
        "placeOnce",
        sql.withTransaction(
          Effect.gen(function* () {
            const { id, placed } = yield* identified("for update")
            if (placed) return undefined
            const made = yield* place(id)
            yield* sql`update blob_store set placed_at = clock_timestamp()`
            return made
          }),
        ),
      ),

    hold: step("hold", hold),
    holdRemovals: (reason) =>
      step(
        "holdRemovals",
        Effect.map(
          sql`update blob_store set held_at = clock_timestamp(), hold_reason = ${reason}::text
            where held_at is null returning one`,
          (rows) => rows.length > 0,
        ),
      ),
    release: step(
      "release",
      Effect.asVoid(sql`
        with forgotten as (delete from orphan_candidates)
        update blob_store set held_at = null, hold_reason = null`),
    ),

    // Durable before it is written into the store, as all that sessions commit: else a crash would look like a restore.
    mark: traced("StoreGuard.mark")(
      function* (last: string | undefined) {
        const rows = yield* sql`
          insert into store_marks (position)
          select present.position
          from (select pg_sequence_last_value('events_position_seq') as position) as present
          where not exists (
            select from store_marks as known
            where known.id = ${last ?? null}::text and known.position is not distinct from present.position)
          returning id, (select last from event_sequence) as sequence,
            (extract(epoch from made_at) * 1000)::double precision as made_at`
        const [made] = yield* decodeMarks(rows)
        return made && { id: made.id, sequence: made.sequence, madeAt: DateTime.unsafeMake(made.made_at) }
      },
      Effect.catchTag("SqlError", unavailable("StoreGuard.mark")),
    ),
    knowsMark: (id) =>
      step(
        "knowsMark",
        Effect.map(sql`select id from store_marks where id = ${id}::text`, (rows) => rows.length > 0),
      ),
    markWritten: (id) =>
      step(
        "markWritten",
        Effect.asVoid(sql`
          delete from store_marks where made_at < (
            select written.made_at from store_marks as written where written.id = ${id}::text) - interval '30 days'`),
      ),
    sequence: step(
      "sequence",
      Effect.flatMap(sql`select last from event_sequence`, (rows) =>
        Effect.map(decodeSequence(rows[0]), ({ last }) => last),
      ),
    ),

    takeListing: step(
      "takeListing",
      sql`update blob_store set listing_epoch = listing_epoch + 1
        returning listing_epoch as epoch, listing_after as after`.pipe(
        Effect.flatMap((rows) => decodeListing(rows[0])),
        Effect.map(({ after, epoch }) => ({ epoch, after: after ?? undefined })),
      ),
    ),
    advanceListing: (epoch, after) =>
      step(
        "advanceListing",
        Effect.flatMap(
          sql`update blob_store set listing_after = ${after ?? null}::text
            where listing_epoch = ${epoch}::bigint returning one`,
          (rows) => (rows.length === 0 ? new StaleListing({ epoch }) : Effect.void),
        ),
      ),

    suspect: (keys) =>
      step(
        "suspect",
        Effect.map(
          sql`insert into orphan_candidates (blob_key) ${keysOf(keys)} on conflict (blob_key) do nothing returning 1`,
          (rows) => rows.length,
        ),
      ),
    dueCandidates: ({ confirmSeconds, limit }) =>
      step(
        "dueCandidates",
        sql`
          update orphan_candidates set handed_at = clock_timestamp()
          where blob_key in (
            select blob_key from orphan_candidates
            where first_seen_at <= clock_timestamp() - ${confirmSeconds}::double precision * interval '1 second'
              and not exists (select from blob_store where held_at is not null)
            order by handed_at nulls first, first_seen_at limit ${limit}::integer for update skip locked)
          returning blob_key as key`.pipe(
          Effect.flatMap(decodeKeys),
          Effect.map((rows) => rows.map(({ key }) => key)),
        ),
      ),
    settle: (keys) =>
      step(
        "settle",
        Effect.map(
          sql`delete from orphan_candidates where blob_key in (${keysOf(keys)}) returning 1`,
          (rows) => rows.length,
        ),
      ),
  })
})

/** The tables `blob_store`, `store_marks` and `orphan_candidates`, on any SqlClient that speaks Postgres. */
export const layer: Layer.Layer<StoreGuard, never, SqlClient.SqlClient> = Layer.effect(StoreGuard, make)
