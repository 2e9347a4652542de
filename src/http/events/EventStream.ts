import { Clock, Effect, Random } from "effect"
import type { ServerResponse } from "node:http"
import { Outbox } from "../../../services/Outbox.ts"
import type { ProjectCaller } from "../../domain/Principal.ts"
import type { SourceEvent } from "../../domain/SourceEvent.ts"
import { encodeSourceEvent } from "../../domain/SourceEventJson.ts"
import { visible } from "../../domain/Visibility.ts"
import { moved, openEventStreams } from "../../telemetry/Transfers.ts"
import { apiError, badRequest } from "../ApiErrors.ts"
import { Gates } from "../Gates.ts"
import { Readiness } from "../Readiness.ts"
import { EventHub } from "./EventHub.ts"
import { KeyWatch } from "./KeyWatch.ts"
import { traced } from "../../telemetry/Spans.ts"
import { inTurn, readingPage } from "../../turns/Turns.ts"

const pageSize = 200
const heartbeatMillis = 15_000

const position = (text: string | undefined, what: string) =>
  text === undefined || text === ""
    ? Effect.succeed(undefined)
    : /^\d{1,15}$/.test(text)
      ? Effect.succeed(Number(text))
      : Effect.fail(badRequest(`${what} must be the sequence of an event.`))

/**
 * Where to go on from: the larger of both positions, or now, after all that has a sequence already. Refused when events in
 * between are no longer retained.
 */
export const startingPoint = traced("Events.startingPoint")(function* (
  lastEventId: string | undefined,
  after: string | undefined,
) {
  const positions = [yield* position(lastEventId, "Last-Event-ID"), yield* position(after, "after")].filter(
    (value) => value !== undefined,
  )
  const { lastPublished, lastSequence, oldestRetained } = yield* (yield* Outbox).state
  if (positions.length === 0) return lastSequence
  const from = Math.max(...positions)
  if (from < lastPublished && (oldestRetained === undefined || from + 1 < oldestRetained))
    return yield* Effect.fail(
      apiError(410, "events_expired", "Events after this position are no longer retained.", {
        details: oldestRetained === undefined ? {} : { oldest_retained: oldestRetained },
      }),
    )
  return from
})

const frames = new WeakMap<SourceEvent, string>()
/** Made once for all streams that share the event. */
const frame = (event: SourceEvent): string => {
  const known = frames.get(event)
  if (known !== undefined) return known
  const made = `id: ${event.sequence}\nevent: ${event.type}\ndata: ${JSON.stringify(encodeSourceEvent(event))}\n\n`
  frames.set(event, made)
  return made
}

/** No event, but the position from which a client that comes back goes on: everything up to it was examined. */
const standsAt = (position: number): string => `id: ${position}\n\n`

/** Waits until the client took what was written: a slow reader slows its own stream, never the node's memory. */
const write = (res: ServerResponse, bytes: Uint8Array): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    res.write(bytes, () => resume(Effect.void))
  })

/** Asks the client to come back, soon, and not in the same instant as all others. Milliseconds, as SSE has them. */
const farewell = Effect.map(Random.nextIntBetween(500, 2000), (pause) => `retry: ${pause}\n\n`)

/**
 * Sends the caller's events after `from` until the client leaves, the key dies, the node drains or the database is
 * away; a client that comes back with the last id it saw misses nothing.
 */
export const streamEvents = traced("Events.stream")(function* (
  res: ServerResponse,
  caller: ProjectCaller,
  from: number,
) {
  const outbox = yield* Outbox
  const readiness = yield* Readiness
  const gates = yield* Gates
  yield* gates.stream(caller.project)
  yield* Effect.acquireRelease(
    Effect.sync(() => moved(openEventStreams, 1)),
    () => Effect.sync(() => moved(openEventStreams, -1)),
  )
  const watcher = yield* (yield* EventHub).watch(caller.project)
  const keyDead = yield* (yield* KeyWatch).watch(caller.keyId)

  res.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
  })
  // Handed to the connection whole, even when the drain comes before a slow reader took it.
  const send = (text: string) => {
    const bytes = Buffer.from(text)
    const written = Effect.raceFirst(write(res, bytes), readiness.drained)
    return Effect.scoped(Effect.zipRight(gates.waiting(caller.project, bytes.length), written))
  }
  yield* send(`: connected\n${standsAt(from)}`)

  /** Shared with all readers of the project, unless this one lags behind them. */
  const page = (after: number) => {
    const found = watcher.recent(after)
    if (found === undefined)
      return inTurn(caller.project, readingPage, outbox.readVisible(caller, { after, limit: pageSize }))
    const events = found.events.filter(({ artifact }) => visible(caller, artifact))
    const rest = events[pageSize]
    return Effect.succeed(
      rest === undefined
        ? { events, examined: found.examined, more: false }
        : { events: events.slice(0, pageSize), examined: rest.sequence - 1, more: true },
    )
  }
  const loop = Effect.gen(function* () {
    let after = from
    let woken = false
    let saidAt = yield* Clock.currentTimeMillis
    for (;;) {
      const { events, examined, more } = yield* page(after)
      const advanced = examined > after
      after = examined
      const dueIn = saidAt + heartbeatMillis - (yield* Clock.currentTimeMillis)
      if (events.length > 0 || more || dueIn <= 0) {
        yield* send(events.length > 0 ? events.map(frame).join("") : `: still here\n${standsAt(after)}`)
        saidAt = yield* Clock.currentTimeMillis
        if (more) continue
      }
      // Only while the database is behind what it said before: it failed over, and the hub will notice.
      if (woken && !advanced) yield* Effect.sleep("100 millis")
      woken = yield* watcher.next(after).pipe(
        Effect.as(true),
        Effect.timeoutTo({
          duration: saidAt + heartbeatMillis - (yield* Clock.currentTimeMillis),
          onSuccess: (woke) => woke,
          onTimeout: () => false,
        }),
      )
    }
  })
  yield* loop.pipe(
    Effect.raceFirst(Effect.raceFirst(readiness.drained, keyDead)),
    Effect.catchTags({
      DependencyUnavailable: (error) =>
        Effect.logWarning(`an event stream ended: ${error.dependency} unavailable`, error.cause),
      // Too much waits for the project's clients already: this one comes back to where it stands.
      ApiError: () => Effect.void,
    }),
    Effect.ensuring(Effect.map(farewell, (text) => void (readiness.isDraining() ? res.end(text) : res.end()))),
  )
}, Effect.scoped)
