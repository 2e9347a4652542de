import { Effect, Layer } from "effect"
import { countedAtMost } from "../../services/Counting.ts"
import { examinedAtMost, Outbox, type Published } from "../../services/Outbox.ts"
import { SourceEvent } from "../../src/domain/SourceEvent.ts"
import { atomically, type EventRow, instant, MemoryDatabase } from "../clients/Memory.ts"
import { visible } from "../../src/domain/Visibility.ts"
import { traced } from "../../src/telemetry/Spans.ts"

type Sequenced = EventRow & { sequence: number }
const isSequenced = (row: EventRow): row is Sequenced => row.sequence !== undefined

const eventOf = (row: Sequenced) =>
  new SourceEvent({
    id: row.id,
    type: row.type,
    artifact: row.artifact,
    occurredAt: instant(row.occurredAt),
    receivedAt: instant(row.receivedAt),
    sequence: row.sequence,
  })

export const layer = Layer.effect(
  Outbox,
  Effect.map(MemoryDatabase, (state) => {
    const sequenced = (from: number) =>
      state.events
        .filter(isSequenced)
        .filter((row) => row.sequence >= from)
        .sort((a, b) => a.sequence - b.sequence)
    /** The last sequence below the first event that is not known to be in the stream. */
    const readable = () =>
      (sequenced(1).find((row) => row.publishedAt === undefined)?.sequence ?? state.lastSequence + 1) - 1
    const mark = (published: Published, now: number) => {
      const marked = new Map<string, number>(published.map(({ id, sequence }) => [id, sequence]))
      for (const row of state.events) {
        if (row.sequence === undefined || marked.get(row.id) !== row.sequence) continue
        row.publishedAt ??= now
        state.lastPublished = Math.max(state.lastPublished, row.sequence)
      }
    }
    return {
      sequence: traced("Outbox.sequence")((limit, published = []) =>
        atomically((now) => {
          mark(published, now)
          const rows = state.events.filter((row) => !isSequenced(row)).slice(0, limit)
          for (const row of rows) {
            row.sequence = ++state.lastSequence
            row.receivedAt = now
          }
          return Effect.succeed(rows.filter(isSequenced).map(eventOf))
        }),
      ),
      read: traced("Outbox.read")(({ from, limit, projects, to = Infinity, unpublishedOnly }) =>
        Effect.sync(() =>
          sequenced(from)
            .filter((row) => row.sequence <= to && (projects?.includes(row.artifact.project) ?? true))
            .filter((row) => unpublishedOnly !== true || row.publishedAt === undefined)
            .slice(0, limit)
            .map(eventOf),
        ),
      ),
      readVisible: traced("Outbox.readVisible")((caller, { after, limit }) =>
        Effect.sync(() => {
          const end = readable()
          const looked = sequenced(after + 1)
            .filter((row) => row.sequence <= end && row.artifact.project === caller.project)
            .slice(0, examinedAtMost)
          const page = looked.filter((row) => visible(caller, row.artifact)).slice(0, limit)
          const last =
            page.length === limit ? page.at(-1) : looked.length === examinedAtMost ? looked.at(-1) : undefined
          const examined = Math.max(after, last?.sequence ?? end)
          return { events: page.map(eventOf), examined, more: examined < end }
        }),
      ),
      news: traced("Outbox.news")((after) =>
        Effect.sync(() => {
          const end = readable()
          const looked =
            after === undefined
              ? []
              : sequenced(after + 1)
                  .filter((row) => row.sequence <= end)
                  .slice(0, examinedAtMost)
          const examined = (looked.length === examinedAtMost ? looked.at(-1)?.sequence : undefined) ?? end
          const last = new Map(looked.map(({ artifact, sequence }) => [artifact.project, sequence]))
          return {
            projects: [...last].map(([project, sequence]) => ({ project, last: sequence })),
            examined,
            more: examined < end,
          }
        }),
      ),
      markPublished: traced("Outbox.markPublished")((events) =>
        atomically((now) => {
          mark(events, now)
          return Effect.void
        }),
      ),
      state: Effect.sync(() => ({
        lastSequence: state.lastSequence,
        lastPublished: state.lastPublished,
        oldestRetained: sequenced(1)[0]?.sequence,
      })),
      unpublished: traced("Outbox.unpublished")((ids) =>
        Effect.sync(() => {
          const asked = new Set(ids)
          return state.events
            .filter(({ id, publishedAt }) => publishedAt === undefined && asked.has(id))
            .map(({ id }) => id)
        }),
      ),
      raise: traced("Outbox.raise")((top, standing) =>
        atomically((now) => {
          const places = new Map<string, number>(standing.map(({ id, sequence }) => [id, sequence]))
          const waiting = state.events.filter(({ publishedAt }) => publishedAt === undefined)
          const adopted = waiting.filter(({ id }) => places.has(id))
          const below = waiting.filter(isSequenced).some(({ sequence }) => sequence <= top)
          if (top <= state.lastSequence && !below && adopted.length === 0) return Effect.void
          const taken = new Set(state.events.filter((row) => row.publishedAt !== undefined).map((row) => row.sequence))
          for (const row of adopted) {
            const place = places.get(row.id)
            if (place === undefined || place > top || taken.has(place)) continue
            row.sequence = place
            row.publishedAt = now
          }
          const moved = sequenced(1).filter((row) => row.publishedAt === undefined)
          state.lastSequence = Math.max(state.lastPublished, top)
          state.lastPublished = state.lastSequence
          for (const row of moved) row.sequence = ++state.lastSequence
          return Effect.void
        }),
      ),
      prune: traced("Outbox.prune")((retentionSeconds, { limit }) =>
        atomically((now) => {
          const isDue = ({ publishedAt }: (typeof numbered)[number]) =>
            publishedAt !== undefined && now - publishedAt > retentionSeconds * 1_000
          const numbered = sequenced(1)
          const kept = numbered.findIndex((row) => !isDue(row))
          const due = kept === -1 ? numbered : numbered.slice(0, kept)
          const gone = new Set<EventRow>(due.slice(0, limit))
          state.events = state.events.filter((row) => !gone.has(row))
          return Effect.succeed({ removed: gone.size, next: due.length > limit ? "next" : undefined })
        }),
      ),
      lag: atomically((now) => {
        const waiting = state.events.filter((row) => row.publishedAt === undefined)
        const oldest = waiting.reduce((least, row) => Math.min(least, row.occurredAt), now)
        return Effect.succeed({ rows: Math.min(countedAtMost, waiting.length), seconds: (now - oldest) / 1_000 })
      }),
    }
  }),
)
