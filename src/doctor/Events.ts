import { Effect } from "effect"
import { Audit } from "../../services/Audit.ts"
import { EventBus } from "../../services/EventBus.ts"
import { Outbox } from "../../services/Outbox.ts"
import { Findings } from "./Report.ts"

/** Events, or entries of the stream, held in memory at once. */
const page = 500
/** An event may wait for the stream for so long, in seconds. */
const late = 60

/** Events come to the stream within a minute, and the stream is not ahead of the database. */
export const eventsArrive = Effect.gen(function* () {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const { found } = yield* Findings
  // In this order: the relay only ever moves both forward.
  const top = yield* bus.top
  const { lastSequence } = yield* outbox.state
  if (top > lastSequence) yield* found("stream_ahead", { top, last_sequence: lastSequence })
  const { rows, seconds } = yield* outbox.lag
  if (seconds > late) yield* found("events_late", { events: rows, oldest_seconds: Math.round(seconds) })
  return rows
})

/**
 * Every published event that the stream still holds stands in it once, at its sequence; and every sequence of that range
 * is some event's. What the stream has trimmed, or the database has pruned, is not looked at.
 */
export const eventsStandOnce = Effect.gen(function* () {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const audit = yield* Audit
  const { found, noticed } = yield* Findings
  const { lastPublished, oldestRetained } = yield* outbox.state
  const [first] = yield* bus.standing(1, 1)
  if (oldestRetained === undefined || first === undefined) return 0
  const end = Math.min(yield* bus.top, lastPublished)

  /** Entries at places where the database has no event: one it knows elsewhere stands here a second time. */
  const strangers = (entries: ReadonlyArray<{ readonly id: string; readonly sequence: number }>) =>
    Effect.gen(function* () {
      const places = new Map((yield* audit.placesOf(entries.map(({ id }) => id))).map((one) => [one.id, one.sequence]))
      for (const { id, sequence } of entries) {
        const place = places.get(id)
        if (place === undefined) yield* noticed("events_unknown", { event: id, sequence })
        else yield* found("event_twice", { event: id, sequence, place })
      }
    })

  let examined = 0
  for (let from = Math.max(first.sequence, oldestRetained); from <= end; from += page) {
    const to = Math.min(from + page - 1, end)
    const inRange = <A extends { readonly sequence: number }>(all: ReadonlyArray<A>) =>
      new Map(all.filter(({ sequence }) => sequence <= to).map((one) => [one.sequence, one]))
    // The stream after the database: what is published in between stands in it already.
    const events = inRange(yield* outbox.read({ from, limit: page }))
    const entries = inRange(yield* bus.standing(from, page))
    const trimmed = (yield* bus.standing(1, 1))[0]?.sequence ?? Infinity
    const waiting = new Set((yield* outbox.read({ from, limit: page, unpublishedOnly: true })).map(({ id }) => id))
    const unplaced: Array<{ readonly id: string; readonly sequence: number }> = []
    for (let sequence = from; sequence <= to; sequence++) {
      const [event, entry] = [events.get(sequence), entries.get(sequence)]
      if (event === undefined && entry !== undefined) unplaced.push(entry)
      else if (event === undefined && sequence >= trimmed) yield* found("sequence_gap", { sequence })
      else if (event === undefined || waiting.has(event.id)) continue
      else if (entry === undefined && sequence >= trimmed) yield* found("event_missing", { event: event.id, sequence })
      else if (entry !== undefined && entry.id !== event.id)
        yield* found("event_misplaced", { event: event.id, sequence, stands: entry.id })
    }
    yield* strangers(unplaced)
    examined += to - from + 1
  }
  return examined
})
