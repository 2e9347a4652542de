import * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { type Context, DateTime, Effect, Layer, Schema } from "effect"
import { countedAtMost } from "../../services/Counting.ts"
import { Outbox, type Published } from "../../services/Outbox.ts"
import type { PruneStep } from "../../services/Pruning.ts"
import { EventId, ProjectHandle } from "../../src/domain/Ids.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { EventType, SourceEvent } from "../../src/domain/SourceEvent.ts"
import { unavailable } from "../clients/sqlErrors.ts"
import { decodePruned } from "../clients/pruned.ts"
import { decoder, EventArtifactRecord, Int8, made, toEventArtifact } from "../MetadataStore/rows.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"
import { newsLook, visibleLook } from "./looks.ts"

/** What the SQL function event_record returns: both drivers give numbers and times in JSON alike. */
const EventRecord = Schema.Struct({
  id: EventId,
  type: EventType,
  artifact: EventArtifactRecord,
  occurred_at: Schema.String,
  received_at: Schema.String,
  sequence: Schema.Number,
})
const decodeEvents = decoder(Schema.Array(Schema.Struct({ event: EventRecord })))
const decodeSequenced = decoder(Schema.Struct({ events: Schema.Array(EventRecord) }))

const toEvent = (record: typeof EventRecord.Type): SourceEvent =>
  new SourceEvent(
    {
      id: record.id,
      type: record.type,
      artifact: toEventArtifact(record.artifact),
      occurredAt: DateTime.unsafeMake(record.occurred_at),
      receivedAt: DateTime.unsafeMake(record.received_at),
      sequence: record.sequence,
    },
    made,
  )
const decodeState = decoder(Schema.Struct({ last: Int8, last_published: Int8, oldest: Schema.NullOr(Int8) }))
const decodeLag = decoder(Schema.Struct({ rows: Int8, seconds: Schema.Number }))

const LookRow = Schema.Struct({ examined: Int8, upto: Int8 })
const decodeVisible = decoder(Schema.Struct({ ...LookRow.fields, events: Schema.Array(EventRecord) }))
const LastOfProject = Schema.Struct({ project: ProjectHandle, last: Schema.Number })
const decodeNews = decoder(Schema.Struct({ ...LookRow.fields, projects: Schema.Array(LastOfProject) }))
const lookOf = ({ examined, upto }: typeof LookRow.Type) => ({ examined, more: examined < upto })

type OutboxShape = Context.Tag.Service<Outbox>

const told = (published: Published) => JSON.stringify(published.map(({ id, sequence }) => ({ id, sequence })))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const events = (condition: Statement.Fragment, limit: number) =>
    sql`
      select event_record(e) as event from events e
      where ${condition} order by e.sequence limit ${limit}::integer`.pipe(
      Effect.flatMap(decodeEvents),
      Effect.map((rows) => rows.map(({ event }) => toEvent(event))),
    )

  const sequence = traced("Outbox.sequence")(
    function* (limit: number, published: Published = []) {
      const rows = yield* published.length === 0
        ? sql`select sequence_events(${limit}::integer) as events`
        : sql`select sequence_events(${limit}::integer) as events, mark_published(${told(published)}::text::jsonb)`
      return (yield* decodeSequenced(rows[0])).events.map(toEvent)
    },
    Effect.catchTag("SqlError", unavailable("Outbox.sequence")),
  )

  const read = traced("Outbox.read")(
    function* ({ from, limit, projects, to, unpublishedOnly }: Parameters<OutboxShape["read"]>[0]) {
      const none = sql.literal("")
      const unpublished = unpublishedOnly === true ? sql`and e.published_at is null` : none
      const upto = to === undefined ? none : sql`and e.sequence <= ${to}::bigint`
      const named =
        projects && sql`and e.project in (select jsonb_array_elements_text(${JSON.stringify(projects)}::text::jsonb))`
      return yield* events(sql`e.sequence >= ${from}::bigint ${upto} ${named ?? none} ${unpublished}`, limit)
    },
    Effect.catchTag("SqlError", unavailable("Outbox.read")),
  )

  const readVisible = traced("Outbox.readVisible")(
    function* (caller: ProjectCaller, options: { readonly after: number; readonly limit: number }) {
      const row = yield* decodeVisible((yield* visibleLook(sql, caller, options))[0])
      return { ...lookOf(row), events: row.events.map(toEvent) }
    },
    Effect.catchTag("SqlError", unavailable("Outbox.readVisible")),
  )

  const news = traced("Outbox.news")(
    function* (after: number | undefined) {
      const row = yield* decodeNews((yield* newsLook(sql, after))[0])
      return { ...lookOf(row), projects: row.projects }
    },
    Effect.catchTag("SqlError", unavailable("Outbox.news")),
  )

  const markPublished = traced("Outbox.markPublished")(
    function* (published: Published) {
      if (published.length > 0) yield* sql`select mark_published(${told(published)}::text::jsonb)`
    },
    Effect.catchTag("SqlError", unavailable("Outbox.markPublished")),
  )

  const state = sql`
    select last, last_published, (select min(sequence) from events) as oldest from event_sequence`.pipe(
    Effect.flatMap((rows) => decodeState(rows[0])),
    Effect.map((row) => ({
      lastSequence: row.last,
      lastPublished: row.last_published,
      oldestRetained: row.oldest ?? undefined,
    })),
    Effect.catchTag("SqlError", unavailable("Outbox.state")),
    spanned("Outbox.state"),
  )

  const unpublished = traced("Outbox.unpublished")(
    function* (ids: ReadonlyArray<string>) {
      const rows = yield* sql<{ readonly id: string }>`
        select id from events where published_at is null
          and id in (select jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb))`
      return rows.map(({ id }) => id)
    },
    Effect.catchTag("SqlError", unavailable("Outbox.unpublished")),
  )

  const raise = traced("Outbox.raise")(
    function* (top: number, standing: Published) {
      yield* sql`select raise_sequence(${top}::bigint, ${told(standing)}::text::jsonb)`
    },
    Effect.catchTag("SqlError", unavailable("Outbox.raise")),
  )

  const prune = traced("Outbox.prune")(
    function* (retentionSeconds: number, { after, limit }: PruneStep) {
      const rows = yield* sql`
        with looked as materialized (
          select ctid as place, sequence, coalesce(published_at
            <= statement_timestamp() - ${retentionSeconds}::double precision * interval '1 second', false) as due
          from events where sequence > coalesce(${after ?? null}::bigint, 0) order by sequence limit ${limit}::integer
        ), front as (
          select place, sequence from looked
          where sequence < coalesce((select min(sequence) from looked where not due), 9223372036854775807)
        ), gone as (
          delete from events where ctid = any(array(select place from front)) returning 1
        )
        select (select count(*) from gone) as removed,
          case when count(*) = ${limit}::integer then max(sequence)::text end as next
        from front`
      return yield* decodePruned(rows)
    },
    Effect.catchTag("SqlError", unavailable("Outbox.prune")),
  )

  // The oldest of each kind is the first of its index.
  const lag = sql`
    select least(${countedAtMost}::bigint, (select count(*) from (
        (select 1 from events where sequence is null limit ${countedAtMost}::integer)
        union all
        (select 1 from events where published_at is null and sequence is not null limit ${countedAtMost}::integer)
      ) as waiting)) as rows,
      greatest(0, coalesce(extract(epoch from clock_timestamp() - least(
        (select occurred_at from events where sequence is null order by position limit 1),
        (select occurred_at from events where published_at is null and sequence is not null order by sequence limit 1)
      )), 0))::double precision as seconds`.pipe(
    Effect.flatMap((rows) => decodeLag(rows[0])),
    Effect.catchTag("SqlError", unavailable("Outbox.lag")),
    spanned("Outbox.lag"),
  )

  return Outbox.of({ sequence, read, readVisible, news, markPublished, state, unpublished, raise, prune, lag })
})

/** The tables `events` and `event_sequence`, on any SqlClient that speaks Postgres. */
export const layer: Layer.Layer<Outbox, never, SqlClient.SqlClient> = Layer.effect(Outbox, make)
