import * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import type { SourceEvent } from "../../src/domain/SourceEvent.ts"
import { callerOf, freshProject, publish } from "./fixtures.ts"

/** Everything written so far has its sequence and stands in the stream. */
export const settle = Effect.gen(function* () {
  const outbox = yield* Outbox
  yield* outbox.sequence(10_000)
  yield* outbox.markPublished(yield* outbox.read({ from: 1, limit: 10_000, unpublishedOnly: true }))
  return yield* outbox.state
})

export const eventsFrom = Effect.fn(function* (from: number, unpublishedOnly?: boolean) {
  return yield* (yield* Outbox).read({ from, limit: 10_000, unpublishedOnly })
})

export const sequences = (events: ReadonlyArray<SourceEvent>) => events.map(({ sequence }) => sequence)

export const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

export const publishMany = (caller: ProjectCaller, count: number) =>
  Effect.replicateEffect(publish(caller).pipe(Effect.map(({ artifact }) => artifact.id)), count)

/** Published events of private artifacts, straight into the tables of a SQL layer: the numbers after the last one. */
export const writePrivate = Effect.fn(function* (project: string, count: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    with head as (update event_sequence set last = last + ${count}::integer, last_published = last + ${count}::integer
      where one returning last - ${count}::integer as before)
    insert into events (id, sequence, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
      created_by_kind, created_by_id, occurred_at, received_at, published_at)
    select 'sevt_' || before + n, before + n, 'artifact.created', ${project}::text, 'art_' || before + n,
      jsonb_build_object('sha256', repeat('ab', 32)), 'private', 'agent', 'nobody', 'agent', 'nobody', now(), now(), now()
    from head, generate_series(1, ${count}::integer) n`
})
