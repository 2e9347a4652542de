import { Effect, Metric } from "effect"
import { type BusEntry, EventBus } from "../../services/EventBus.ts"
import { Outbox, type OutboxState } from "../../services/Outbox.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import type { SourceEvent } from "../domain/SourceEvent.ts"
import { encodeSourceEvent } from "../domain/SourceEventJson.ts"
import { refills, restores } from "../telemetry/Relay.ts"
import { traced } from "../telemetry/Spans.ts"

/** Events moved in one step. */
const batch = 500

const entryOf = (event: SourceEvent): BusEntry => ({
  sequence: event.sequence,
  id: event.id,
  type: event.type,
  project: event.artifact.project,
  payload: JSON.stringify(encodeSourceEvent(event)),
})

/**
 * One round: new events get their sequences and are appended; unless the stream is just where they begin, it is brought
 * to where the outbox is. Returns whether anything was moved. Any number of relays may run rounds at once: each append is conditional on the stream's top, and what to do
 * when it is elsewhere is decided from the outbox alone.
 */
export const relayRound = traced("EventRelay.round")(function* () {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const fresh = yield* outbox.sequence(batch)
  const newest = fresh[0]
  if (newest !== undefined) {
    const { _tag: outcome } = yield* bus.append(newest.sequence - 1, fresh.map(entryOf))
    if (outcome === "Appended") {
      yield* outbox.markPublished(fresh)
      return true
    }
  }
  // In this order: another relay only ever moves both forward, so a top beyond a later state is beyond Postgres.
  const top = yield* bus.top
  const state = yield* outbox.state

  const pending = yield* outbox.read({ from: 1, limit: batch, unpublishedOnly: true })
  const first = pending[0]

  if (first !== undefined && first.sequence <= top) {
    // The stream is past this event: it stands there already, or another one does and Postgres was restored. Asked
    // twice, for a stream that was flushed since and is being refilled by another relay holds nothing for an instant.
    const standing = (yield* bus.idAt(first.sequence)) ?? (yield* standingNow(first.sequence))
    if (standing === first.id) yield* outbox.markPublished([first])
    else if (standing !== "ahead") yield* restored(top, state.lastSequence)
    return true
  }
  // Only after all that stands was marked: raising numbers the unmarked anew, and they would be appended twice.
  if (top > state.lastSequence) {
    yield* restored(top, state.lastSequence)
    return true
  }
  if (top < state.lastPublished && (yield* refill(top, state))) return true
  if (pending.length === 0) return fresh.length > 0
  const run = consecutive(pending)
  // After a raise the numbering goes on above the stream's top; nothing between was ever given out.
  const appended = yield* bus.append(top, run.map(entryOf))
  if (appended._tag === "Appended") yield* outbox.markPublished(run)
  return true
})

/** What stands at a sequence of a stream that is not behind it: an event id, or nothing any more. */
const standingNow = Effect.fnUntraced(function* (sequence: number) {
  const bus = yield* EventBus
  return (yield* bus.top) < sequence ? ("ahead" as const) : yield* bus.idAt(sequence)
})

/** The leading events whose sequences follow each other without a gap. */
const consecutive = (events: ReadonlyArray<SourceEvent>): ReadonlyArray<SourceEvent> => {
  const gap = events.findIndex((event, index) => index > 0 && event.sequence !== (events[index - 1]?.sequence ?? 0) + 1)
  return gap === -1 ? events : events.slice(0, gap)
}

/**
 * The stream is ahead of Postgres, or holds other events: new sequences go above its top. Never taken for an append. The
 * raise is by the top that was read before the events, so that a second relay that saw the same changes nothing.
 */
const restored = Effect.fnUntraced(function* (top: number, lastSequence: number) {
  yield* Effect.logWarning(
    "The event stream is ahead of Postgres, which must have been restored: raising the sequence.",
  ).pipe(Effect.annotateLogs({ top, lastSequence }))
  yield* Metric.increment(restores)
  yield* (yield* Outbox).raise(top)
})

/**
 * Redis lost its tail, or everything: what Postgres still holds of it goes back, from where a refill starts. Unpublished
 * events are never skipped. Returns whether there was anything to put back.
 */
const refill = Effect.fnUntraced(function* (from: number, { lastPublished, oldestRetained }: OutboxState) {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const start = Math.max(from + 1, oldestRetained ?? 1, lastPublished - bus.maxLength + 1)
  let run = consecutive(yield* outbox.read({ from: start, limit: batch }))
  if (run.length === 0) return false
  yield* Effect.logWarning("The event stream lost entries: refilling it.").pipe(Effect.annotateLogs({ from, start }))
  yield* Metric.increment(refills)
  let top = from
  for (let last = run.at(-1); last !== undefined; last = run.at(-1)) {
    const appended = yield* bus.append(top, run.map(entryOf))
    // Another relay is at it, or the stream was lost again: the next round looks anew.
    if (appended._tag === "Elsewhere") return true
    yield* outbox.markPublished(run)
    top = last.sequence
    run = consecutive(yield* outbox.read({ from: top + 1, limit: batch }))
  }
  return true
})

/** Between two rounds: what comes meanwhile shares the next one. */
const breath = "3 millis"

/** Rounds for ever: soon while there is work, at a ring, or after a second. A fault is logged and retried within 2 s. */
export const relay = Effect.gen(function* () {
  const woken = yield* (yield* Wakeup).listen
  let pause = 100
  const round = relayRound().pipe(
    Effect.tap(() =>
      Effect.sync(() => {
        pause = 100
      }),
    ),
    Effect.catchAllCause((cause) =>
      Effect.gen(function* () {
        if (pause === 100) yield* Effect.logError("The event relay failed and goes on trying.", cause)
        pause = Math.min(2000, pause * 2)
        yield* Effect.sleep(pause)
        return true
      }),
    ),
  )
  return yield* Effect.forever(Effect.flatMap(round, (moved) => (moved ? Effect.sleep(breath) : woken(1000))))
}).pipe(Effect.scoped)
