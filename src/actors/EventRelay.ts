import { Clock, Effect, Metric } from "effect"
import { type BusEntry, EventBus } from "../../services/EventBus.ts"
import { Outbox, type OutboxState } from "../../services/Outbox.ts"
import { Wakeup } from "../../services/Wakeup.ts"
import type { SourceEvent } from "../domain/SourceEvent.ts"
import { encodeSourceEvent } from "../domain/SourceEventJson.ts"
import { dutyDone } from "../telemetry/Duties.ts"
import { refills, restores } from "../telemetry/Relay.ts"
import { traced } from "../telemetry/Spans.ts"
import { holdRemovals } from "./Watermark.ts"

/** Events moved in one step. */
const batch = 500

const entryOf = (event: SourceEvent): BusEntry => ({
  sequence: event.sequence,
  id: event.id,
  type: event.type,
  project: event.artifact.project,
  payload: JSON.stringify(encodeSourceEvent(event)),
})

/** What a round left: nothing to do; perhaps more, and events for the next one to mark; or something to look for. */
export type Round =
  | { readonly _tag: "Idle" }
  | { readonly _tag: "Moved"; readonly unmarked: ReadonlyArray<SourceEvent> }
  | { readonly _tag: "Behind" }

const idle: Round = { _tag: "Idle" }
const behind: Round = { _tag: "Behind" }

/**
 * One round: what the one before left unmarked is marked and new events get their sequences, in one step; the stream is
 * brought to where the outbox is. `direct` appends the new ones at once when the stream is just where they begin, without
 * a look at whether older ones still wait. Any number of relays may run rounds at once: each append is conditional on
 * the stream's top, and what to do when it is elsewhere is decided from the outbox alone.
 */
export const relayRound = traced("EventRelay.round")(function* (
  direct: boolean,
  unmarked: ReadonlyArray<SourceEvent> = [],
) {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const fresh = yield* outbox.sequence(batch, unmarked)
  const next = fresh[0]
  if (direct) {
    if (next === undefined) return idle
    const { _tag: outcome } = yield* bus.append(next.sequence - 1, fresh.map(entryOf))
    if (outcome === "Appended") return { _tag: "Moved", unmarked: fresh } satisfies Round
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
    if (standing === first.id) yield* outbox.markPublished([first, ...(yield* alsoStanding(pending.slice(1), top))])
    else if (standing !== "ahead") yield* restored(top, state, first.sequence)
    return behind
  }
  // Only after all that stands was marked: raising numbers the unmarked anew, and they would be appended twice.
  if (top > state.lastSequence) {
    yield* restored(top, state, first?.sequence)
    return behind
  }
  if (top < state.lastPublished && (yield* refill(top, state))) return behind
  if (pending.length === 0) return idle
  const run = consecutive(pending)
  // After a raise the numbering goes on above the stream's top; nothing between was ever given out.
  const { _tag: outcome } = yield* bus.append(top, run.map(entryOf))
  if (outcome === "Elsewhere") return behind
  yield* outbox.markPublished(run)
  return run.length < pending.length || pending.length === batch
    ? behind
    : ({ _tag: "Moved", unmarked: [] } satisfies Round)
})

/** The leading events that a stream with this top holds at their sequences: a relay died before it marked them. */
const alsoStanding = Effect.fnUntraced(function* (events: ReadonlyArray<SourceEvent>, top: number) {
  const bus = yield* EventBus
  const appended = events.filter(({ sequence }) => sequence <= top)
  const found = yield* Effect.forEach(appended, ({ sequence }) => bus.idAt(sequence), { concurrency: 32 })
  const other = appended.findIndex(({ id }, index) => found[index] !== id)
  return other === -1 ? appended : appended.slice(0, other)
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

/** Unpublished events that stand in the stream from a sequence up to `top`, with their places there. */
const standingUnpublished = Effect.fnUntraced(function* (from: number, top: number) {
  const outbox = yield* Outbox
  const bus = yield* EventBus
  const found: Array<{ readonly id: string; readonly sequence: number }> = []
  for (let at = from; at <= top;) {
    const entries = (yield* bus.standing(at, batch)).filter(({ sequence }) => sequence <= top)
    const last = entries.at(-1)
    if (last === undefined) break
    const unpublished = new Set(yield* outbox.unpublished(entries.map(({ id }) => id)))
    found.push(...entries.filter(({ id }) => unpublished.has(id)))
    at = last.sequence + 1
  }
  return found
})

/**
 * The stream is ahead of Postgres, or holds other events: Postgres was restored, or failed over to a replica that
 * lagged. Events it still has may stand in the stream at places it does not know; they take those, so that none is
 * appended twice, and new sequences go above the stream's top. What stands there is looked for from where Postgres's
 * own knowledge of the stream ends, or its first unpublished event (`first`) is. The raise is by the top that was read
 * before the events, so that a second relay that saw the same changes nothing.
 */
const restored = Effect.fnUntraced(function* (
  top: number,
  { lastPublished, lastSequence }: OutboxState,
  first: number | undefined,
) {
  const outbox = yield* Outbox
  yield* holdRemovals(`the event stream is ahead of the database (sequence ${top}, not ${lastSequence}).`)
  const standing = yield* standingUnpublished(Math.min(first ?? Infinity, lastPublished + 1), top)
  yield* Effect.logWarning(
    "The event stream is ahead of Postgres, which must have been restored or failed over: raising the sequence.",
  ).pipe(Effect.annotateLogs({ top, lastSequence, foundInStream: standing.length }))
  yield* Metric.increment(restores)
  yield* outbox.raise(top, standing)
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
  let top = from
  for (let last = run.at(-1); last !== undefined; last = run.at(-1)) {
    const appended = yield* bus.append(top, run.map(entryOf))
    // Another relay is at it, or the stream was lost again: the next round looks anew.
    if (appended._tag === "Elsewhere") return true
    if (top === from) {
      yield* Effect.logWarning("The event stream lost entries: refilling it.").pipe(
        Effect.annotateLogs({ from, start }),
      )
      yield* Metric.increment(refills)
    }
    yield* outbox.markPublished(run)
    top = last.sequence
    run = consecutive(yield* outbox.read({ from: top + 1, limit: batch }))
  }
  return true
})

/** Between two rounds: what comes meanwhile shares the next one. */
const breath = "3 millis"

/** However busy it is, a relay looks this often for what another one left unmarked. */
const directForMillis = 1_000

/**
 * Rounds for ever: soon while there is work, at a ring, or after a second. A fault is logged and retried within 2 s.
 * Direct rounds only once one that was not found everything marked, and not for long. Told to stop, it marks what it
 * appended, so that nobody waits for the next relay to find it.
 */
export const relay = Effect.gen(function* () {
  const outbox = yield* Outbox
  const woken = yield* (yield* Wakeup).listen
  let pause = 100
  let directUntil = 0
  let unmarked: ReadonlyArray<SourceEvent> = []
  const round = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const direct = now < directUntil
    const left = yield* relayRound(direct, unmarked)
    if (left._tag === "Behind") directUntil = 0
    else if (!direct) directUntil = now + directForMillis
    unmarked = left._tag === "Moved" ? left.unmarked : []
    pause = 100
    yield* dutyDone("relay")
    return left
  }).pipe(
    Effect.catchAllCause((cause) =>
      Effect.gen(function* () {
        directUntil = 0
        unmarked = []
        if (pause === 100) yield* Effect.logError("The event relay failed and goes on trying.", cause)
        pause = Math.min(2000, pause * 2)
        yield* Effect.sleep(pause)
        return behind
      }),
    ),
  )
  return yield* Effect.forever(
    Effect.flatMap(round, ({ _tag: left }) => (left === "Idle" ? woken(1000) : Effect.sleep(breath))),
  ).pipe(Effect.ensuring(Effect.suspend(() => Effect.ignoreLogged(outbox.markPublished(unmarked)))))
}).pipe(Effect.scoped)
