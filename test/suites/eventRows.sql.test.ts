import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { inject } from "vitest"
import { examinedAtMost, Outbox } from "../../services/Outbox.ts"
import { EventArtifact } from "../../src/domain/SourceEvent.ts"
import { callerOf, live, principal, publish, removeAs, type SqlServices } from "./fixtures.ts"
import { newCaller, settle, writePrivate } from "./outboxSteps.ts"
import { embeddedLayer, postgresLayer } from "./sql.ts"

/** What release 1.0.0 reads of an event: it takes the metadata's text for granted. */
const readAsBefore = (record: { readonly artifact: { readonly metadata: string } }) =>
  JSON.parse(record.artifact.metadata)

const suite = (name: string, subject: Layer.Layer<SqlServices | SqlClient.SqlClient, unknown>) =>
  layer(subject, live)(`Rows of events: ${name}`, (it) => {
    const metadata = { secret: "x".repeat(60_000) }

    it.effect("no event holds the metadata of its artifact, neither of a created one nor of a deleted one", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const caller = yield* newCaller
        const { artifact } = yield* publish(caller, { metadata })
        yield* removeAs(caller, artifact.id)
        const rows = yield* sql<{ readonly type: string; readonly keyed: boolean; readonly small: boolean }>`
          select type, artifact ? 'metadata' as keyed, length(artifact::text) < 2000 as small
          from events where artifact_id = ${artifact.id} order by position`
        expect(rows).toEqual([
          { type: "artifact.created", keyed: false, small: true },
          { type: "artifact.deleted", keyed: false, small: true },
        ])
      }),
    )

    it.effect("metadata in a row that release 1.0.0 wrote does not leave the database", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const caller = yield* newCaller
        yield* settle
        const { artifact } = yield* publish(caller, { metadata })
        yield* sql`update events set artifact = artifact || jsonb_build_object('metadata', ${JSON.stringify(metadata)}::text)
          where artifact_id = ${artifact.id}`
        const rows = yield* sql<{ readonly kept: boolean; readonly read: boolean; readonly sequenced: boolean }>`
          select length(e.artifact::text) > 60000 as kept, length(event_record(e)::text) < 2000 as read,
            length(sequence_events(10)::text) < 2000 as sequenced
          from events e where artifact_id = ${artifact.id}`
        expect(rows).toEqual([{ kept: true, read: true, sequenced: true }])
        const [event] = yield* (yield* Outbox).read({ from: (yield* settle).lastSequence, limit: 1 })
        expect(event?.artifact).toEqual(EventArtifact.of(artifact))
      }),
    )

    it.effect("release 1.0.0 reads rows without metadata as if there were none", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { artifact } = yield* publish(yield* newCaller, { metadata })
        const [row] = yield* sql<{ readonly event: Parameters<typeof readAsBefore>[0] & { readonly id: string } }>`
          select event_record(e) as event from events e where artifact_id = ${artifact.id}`
        expect(row && readAsBefore(row.event)).toEqual({})
      }),
    )

    it.effect("a look examines a bounded number of events, and none of them twice", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const outbox = yield* Outbox
        const creator = yield* newCaller
        const viewer = yield* callerOf(creator.project, principal("viewer"), ["mobius.project.view"])
        const { lastSequence } = yield* settle
        const count = 2 * examinedAtMost + 500
        yield* writePrivate(creator.project, count)
        const steps: Array<number> = []
        for (let after = lastSequence, more = true; more;) {
          const look = yield* outbox.readVisible(viewer, { after, limit: 10 })
          expect(look.events).toEqual([])
          steps.push(look.examined - after)
          after = look.examined
          more = look.more
        }
        expect(steps).toEqual([examinedAtMost, examinedAtMost, 500])
        const first = yield* outbox.news(lastSequence)
        expect(first).toEqual({
          projects: [{ project: creator.project, last: lastSequence + examinedAtMost }],
          examined: lastSequence + examinedAtMost,
          more: true,
        })
        yield* sql`delete from events where sequence > ${lastSequence}`
      }),
    )
  })

suite("PGlite", embeddedLayer)

const url = inject("postgresUrl")
if (url !== null) suite("Postgres", postgresLayer(url))
