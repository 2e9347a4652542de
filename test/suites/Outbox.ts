import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { EventArtifact } from "../../src/domain/SourceEvent.ts"
import { startingPoint } from "../../src/http/events/EventStream.ts"
import {
  callerOf,
  freshProject,
  live,
  principal,
  publish,
  removeAs,
  worker,
  type SqlLayer,
  type SuiteOptions,
} from "./fixtures.ts"
import { outboxRaces } from "./outboxRaces.ts"
import { outboxRaises } from "./outboxRaises.ts"
import { eventsFrom, newCaller, publishMany, sequences, settle } from "./outboxSteps.ts"

/** The contract of services/Outbox, a test a sentence. One database a suite at a time: sequences are global. */
export const outboxSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`Outbox: ${name}`, (it) => {
    it.effect("sequences begin at 1 and are dense", () =>
      Effect.gen(function* () {
        yield* publishMany(yield* newCaller, 3)
        const { lastSequence, oldestRetained } = yield* settle
        const numbers = sequences(yield* eventsFrom(1))
        expect(oldestRetained).toBe(1)
        expect(numbers).toEqual(Array.from({ length: lastSequence }, (_, index) => index + 1))
      }),
    )
    it.effect(
      "created and deleted give one event each, in order, with the artifact as it was, but for its metadata",
      () =>
        Effect.gen(function* () {
          const outbox = yield* Outbox
          const { lastSequence } = yield* settle
          const caller = yield* newCaller
          const { artifact } = yield* publish(caller, { metadata: { a: [1, { b: null }] } })
          const { artifact: tombstone } = yield* removeAs(caller, artifact.id)
          yield* removeAs(caller, artifact.id)
          expect(yield* outbox.sequence(100)).toHaveLength(2)
          const events = yield* eventsFrom(lastSequence + 1)
          expect(events.map(({ type }) => type)).toEqual(["artifact.created", "artifact.deleted"])
          expect(sequences(events)).toEqual([lastSequence + 1, lastSequence + 2])
          expect(events[0]?.artifact).toEqual(EventArtifact.of(artifact))
          expect(events[1]?.artifact).toEqual(EventArtifact.of(tombstone))
          expect(new Set(events.map(({ id }) => id)).size).toBe(2)
          expect(events[0]?.occurredAt).toEqual(artifact.createdAt)
        }),
    )
    it.effect("an event without a sequence is not read", () =>
      Effect.gen(function* () {
        const { lastSequence } = yield* settle
        yield* publish(yield* newCaller)
        expect(yield* eventsFrom(lastSequence + 1)).toEqual([])
        expect((yield* (yield* Outbox).state).lastSequence).toBe(lastSequence)
      }),
    )
    it.effect("a stream that starts from now starts after all that is read, known to stand in the stream or not", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence } = yield* settle
        const caller = yield* newCaller
        yield* publish(caller)
        yield* outbox.sequence(100)
        const after = yield* startingPoint(undefined, undefined)
        expect(after).toBe(lastSequence + 1)
        yield* settle
        expect(yield* outbox.readVisible(caller, { after, limit: 100 })).toEqual({
          events: [],
          examined: after,
          more: false,
        })
      }),
    )
    it.effect("sequence takes up to its limit, in the order written, and says how many", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence } = yield* settle
        const ids = yield* publishMany(yield* newCaller, 5)
        expect(yield* outbox.sequence(2)).toHaveLength(2)
        expect((yield* outbox.state).lastSequence).toBe(lastSequence + 2)
        expect(yield* outbox.sequence(100)).toHaveLength(3)
        expect(yield* outbox.sequence(100)).toHaveLength(0)
        expect((yield* eventsFrom(lastSequence + 1)).map(({ artifact }) => artifact.id)).toEqual(ids)
      }),
    )
    it.effect("read honours from and limit", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: last } = yield* settle
        yield* publishMany(yield* newCaller, 4)
        yield* outbox.sequence(100)
        expect(sequences(yield* outbox.read({ from: last + 2, limit: 2 }))).toEqual([last + 2, last + 3])
        expect(sequences(yield* outbox.read({ from: last + 2, to: last + 3, limit: 9 }))).toEqual([last + 2, last + 3])
        expect(yield* outbox.read({ from: last + 5, limit: 2 })).toEqual([])
      }),
    )
    it.effect("read honours the projects it is asked for", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: last } = yield* settle
        const [one, other, third] = [yield* newCaller, yield* newCaller, yield* newCaller]
        for (const caller of [one, other, third, one]) yield* publishMany(caller, 1)
        yield* outbox.sequence(100)
        const of = (...projects: ReadonlyArray<string>) =>
          Effect.map(outbox.read({ from: last + 1, limit: 9, projects }), sequences)
        expect(yield* of(one.project, third.project)).toEqual([last + 1, last + 3, last + 4])
        expect(yield* of(other.project)).toEqual([last + 2])
        expect(yield* of()).toEqual([])
      }),
    )
    it.effect("marked events are published: left out of unpublished reads, idempotently, never moving back", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: last } = yield* settle
        yield* publishMany(yield* newCaller, 3)
        yield* outbox.sequence(100)
        const events = yield* eventsFrom(last + 1, true)
        yield* outbox.markPublished(events.slice(0, 2))
        expect(sequences(yield* eventsFrom(last + 1, true))).toEqual([last + 3])
        expect((yield* outbox.state).lastPublished).toBe(last + 2)
        yield* outbox.markPublished(events.slice(0, 1))
        expect((yield* outbox.state).lastPublished).toBe(last + 2)
        expect(yield* eventsFrom(last + 1)).toHaveLength(3)
        yield* outbox.markPublished([])
      }),
    )
    it.effect("sequence marks what it is told of in the same step, with and without new events", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: last } = yield* settle
        const caller = yield* newCaller
        yield* publishMany(caller, 2)
        const first = yield* outbox.sequence(100)
        yield* publishMany(caller, 1)
        const second = yield* outbox.sequence(100, first)
        expect(sequences(second)).toEqual([last + 3])
        expect(sequences(yield* eventsFrom(last + 1, true))).toEqual([last + 3])
        expect(yield* outbox.sequence(100, second)).toEqual([])
        expect(yield* outbox.state).toMatchObject({ lastSequence: last + 3, lastPublished: last + 3 })
      }),
    )
    it.effect("a mark meant for another number of the event does nothing", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: last } = yield* settle
        yield* publishMany(yield* newCaller, 1)
        yield* outbox.sequence(100)
        const [event] = yield* eventsFrom(last + 1)
        yield* outbox.markPublished([{ id: event?.id ?? "", sequence: last + 9 }])
        yield* outbox.markPublished([{ id: "sevt_unknown", sequence: last + 1 }])
        expect(yield* eventsFrom(last + 1, true)).toHaveLength(1)
      }),
    )
    outboxRaises(it)
    it.effect("readVisible has one project's published events after a sequence, as the caller may see them", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: after } = yield* settle
        const project = yield* freshProject()
        const creator = yield* callerOf(project, worker, ["mobius.work.execute"])
        const viewer = yield* callerOf(project, principal("viewer"), ["mobius.project.view"])
        const editor = yield* callerOf(project, principal("editor"), ["mobius.project.edit"])
        const owner = yield* callerOf(project, principal("owner"), [])
        const stranger = yield* callerOf(project, principal("stranger"), ["mobius.work.execute"])
        yield* publish(yield* newCaller)
        const shared = (yield* publish(creator, { owner: owner.principal })).artifact.id
        const secret = (yield* publish(creator, { owner: owner.principal, visibility: "private" })).artifact.id
        const seen = (caller: ProjectCaller, from = after) =>
          outbox
            .readVisible(caller, { after: from, limit: 100 })
            .pipe(Effect.map(({ events }) => events.map(({ artifact }) => artifact.id)))
        yield* outbox.sequence(100)
        expect(yield* seen(creator)).toEqual([])
        const { lastSequence } = yield* settle
        expect(yield* seen(creator)).toEqual([shared, secret])
        expect(yield* seen(owner)).toEqual([shared, secret])
        expect(yield* seen(editor)).toEqual([shared, secret])
        expect(yield* seen(viewer)).toEqual([shared])
        expect(yield* seen(stranger)).toEqual([])
        expect(yield* seen(creator, lastSequence)).toEqual([])
        const { events, examined, more } = yield* outbox.readVisible(creator, { after, limit: 1 })
        expect(events.map(({ artifact }) => artifact.id)).toEqual([shared])
        expect({ examined, more }).toEqual({ examined: lastSequence - 1, more: true })
      }),
    )
    it.effect("readVisible examines what the caller may not see, other projects' too, and goes on after it", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: after } = yield* settle
        const creator = yield* newCaller
        const viewer = yield* callerOf(creator.project, principal("viewer"), ["mobius.project.view"])
        const secret = publish(creator, { visibility: "private" })
        yield* Effect.replicateEffect(secret, 3)
        yield* publishMany(yield* newCaller, 2)
        const { lastSequence: first } = yield* settle
        const look = (from: number) => outbox.readVisible(viewer, { after: from, limit: 2 })
        expect(yield* look(after)).toEqual({ events: [], examined: first, more: false })
        yield* secret
        const { artifact } = yield* publish(creator)
        yield* secret
        const { lastSequence: last } = yield* settle
        const { events, ...rest } = yield* look(first)
        expect(events.map((event) => event.artifact.id)).toEqual([artifact.id])
        expect(rest).toEqual({ examined: last, more: false })
        expect(yield* look(last)).toEqual({ events: [], examined: last, more: false })
        expect(yield* look(last + 7)).toEqual({ events: [], examined: last + 7, more: false })
      }),
    )
    it.effect("readVisible ends before the first event, of any project, that is not known to be in the stream", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: after } = yield* settle
        const caller = yield* newCaller
        yield* publishMany(caller, 1)
        yield* publishMany(yield* newCaller, 1)
        yield* publishMany(caller, 1)
        yield* outbox.sequence(100)
        const [first, foreign, last] = yield* eventsFrom(after + 1)
        if (!first || !foreign || !last) throw new Error("three events were written")
        const seen = outbox
          .readVisible(caller, { after, limit: 100 })
          .pipe(Effect.map(({ events, examined }) => [sequences(events), examined - after]))
        yield* outbox.markPublished([last])
        expect(yield* seen).toEqual([[], 0])
        yield* outbox.markPublished([first])
        expect(yield* seen).toEqual([[after + 1], 1])
        yield* outbox.markPublished([foreign])
        expect(yield* seen).toEqual([[after + 1, after + 3], 3])
      }),
    )
    it.effect("news has the projects with events after a position, up to the first that is not in the stream", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const { lastSequence: after } = yield* settle
        const [one, other] = [yield* newCaller, yield* newCaller]
        yield* publishMany(one, 2)
        yield* publishMany(other, 1)
        yield* publishMany(one, 1)
        yield* outbox.sequence(100)
        const nothing = { projects: [], examined: after, more: false }
        expect(yield* outbox.news(after)).toEqual(nothing)
        expect(yield* outbox.news(undefined)).toEqual(nothing)
        const events = yield* eventsFrom(after + 1)
        yield* outbox.markPublished(events.slice(0, 3))
        const found = yield* outbox.news(after)
        expect(new Map(found.projects.map(({ last, project }) => [project, last]))).toEqual(
          new Map([
            [one.project, after + 2],
            [other.project, after + 3],
          ]),
        )
        expect(found).toMatchObject({ examined: after + 3, more: false })
        yield* outbox.markPublished(events)
        expect(yield* outbox.news(after + 3)).toEqual({
          projects: [{ project: one.project, last: after + 4 }],
          examined: after + 4,
          more: false,
        })
        expect(yield* outbox.news(undefined)).toEqual({ projects: [], examined: after + 4, more: false })
      }),
    )
    it.effect("news is behind the position of who saw more than the database knows", () =>
      Effect.gen(function* () {
        const { lastSequence } = yield* settle
        expect((yield* (yield* Outbox).news(lastSequence + 9)).examined).toBe(lastSequence)
      }),
    )
    it.effect("prune removes events appended longer ago than the retention, never unpublished ones", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const caller = yield* newCaller
        yield* publishMany(caller, 2)
        const { lastSequence } = yield* settle
        yield* publishMany(caller, 1)
        yield* outbox.sequence(100)
        expect(yield* outbox.prune(3_600, { limit: 100 })).toEqual({ removed: 0, next: undefined })
        yield* Effect.sleep("1200 millis")
        expect((yield* outbox.prune(1, { limit: 100 })).removed).toBeGreaterThanOrEqual(2)
        expect(sequences(yield* eventsFrom(1))).toEqual([lastSequence + 1])
        expect(yield* outbox.state).toMatchObject({ lastSequence: lastSequence + 1, oldestRetained: lastSequence + 1 })
      }),
    )
    it.effect("prune leaves no gap: an event that is kept keeps those above it", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const caller = yield* newCaller
        yield* settle
        yield* publishMany(caller, 3)
        const [first, kept, last] = yield* outbox.sequence(100)
        if (first === undefined || kept === undefined || last === undefined) throw new Error("too few events")
        yield* outbox.markPublished([first, last])
        yield* Effect.sleep("1200 millis")
        yield* outbox.prune(1, { limit: 100 })
        expect(sequences(yield* eventsFrom(1))).toEqual([kept.sequence, last.sequence])
      }),
    )
    it.effect("prune goes on step by step, the oldest first", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const caller = yield* newCaller
        yield* publishMany(caller, 5)
        yield* settle
        const all = sequences(yield* eventsFrom(1))
        yield* Effect.sleep("1200 millis")
        const first = yield* outbox.prune(1, { limit: 3 })
        expect(first).toEqual({ removed: 3, next: expect.any(String) })
        expect((yield* outbox.state).oldestRetained).toBe(all[3])
        let removed = 3
        for (let { next } = first; next !== undefined;) {
          const step = yield* outbox.prune(1, { limit: 3, after: next })
          removed += step.removed
          next = step.next
        }
        expect(removed).toBe(all.length)
      }),
    )
    it.effect("when nothing is retained the sequence still goes on", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        const caller = yield* newCaller
        yield* publishMany(caller, 1)
        const before = yield* settle
        yield* Effect.sleep("1200 millis")
        yield* outbox.prune(1, { limit: 100 })
        expect(yield* outbox.state).toEqual({ ...before, oldestRetained: undefined })
        yield* publishMany(caller, 1)
        expect((yield* settle).lastSequence).toBe(before.lastSequence + 1)
      }),
    )
    it.effect("lag counts what is not in the stream yet, and for how long", () =>
      Effect.gen(function* () {
        const outbox = yield* Outbox
        yield* settle
        expect(yield* outbox.lag).toEqual({ rows: 0, seconds: 0 })
        const caller = yield* newCaller
        yield* publishMany(caller, 1)
        yield* outbox.sequence(100)
        yield* publishMany(caller, 1)
        yield* Effect.sleep("1100 millis")
        const lag = yield* outbox.lag
        expect(lag.rows).toBe(2)
        expect(lag.seconds).toBeGreaterThanOrEqual(1)
        expect(lag.seconds).toBeLessThan(10)
      }),
    )
    if (options.concurrent === true) outboxRaces(it)
  })
