import { Clock, Effect, Random } from "effect"
import type { ServerResponse } from "node:http"
import { Authenticator } from "../../../services/Authenticator.ts"
import { Outbox } from "../../../services/Outbox.ts"
import type { ProjectCaller } from "../../domain/Principal.ts"
import type { SourceEvent } from "../../domain/SourceEvent.ts"
import { encodeSourceEvent } from "../../domain/SourceEventJson.ts"
import { moved, openEventStreams } from "../../telemetry/Transfers.ts"
import { apiError, badRequest } from "../ApiErrors.ts"
import { Readiness } from "../Readiness.ts"
import { EventHub } from "./EventHub.ts"
import { traced } from "../../telemetry/Spans.ts"

const pageSize = 200
const heartbeatMillis = 15_000
const keyCheckMillis = 5_000
const longestPauseMillis = 1_000

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

const frame = (event: SourceEvent): string =>
  `id: ${event.sequence}\nevent: ${event.type}\ndata: ${JSON.stringify(encodeSourceEvent(event))}\n\n`

/** Waits until the client took what was written: a slow reader slows its own stream, never the node's memory. */
const write = (res: ServerResponse, text: string): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    res.write(text, () => resume(Effect.void))
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
  const authenticator = yield* Authenticator
  const readiness = yield* Readiness
  yield* Effect.acquireRelease(
    Effect.sync(() => moved(openEventStreams, 1)),
    () => Effect.sync(() => moved(openEventStreams, -1)),
  )
  const watcher = yield* (yield* EventHub).watch(caller.project)

  res.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
  })
  const drained = Effect.as(readiness.drained, false)
  // Handed to the connection whole, even when the drain comes before a slow reader took it.
  const send = (text: string) => Effect.raceFirst(write(res, text), drained)
  yield* send(": connected\n\n")

  const loop = Effect.gen(function* () {
    let after = from
    let pause = longestPauseMillis
    let beatAt = yield* Clock.currentTimeMillis
    let checkedAt = beatAt
    while (!readiness.isDraining()) {
      const events = yield* outbox.readVisible(caller, { after, limit: pageSize })
      const now = yield* Clock.currentTimeMillis
      if (now - checkedAt >= keyCheckMillis) {
        if (!(yield* authenticator.stillValid(caller.keyId))) return
        checkedAt = now
      }
      const last = events.at(-1)
      if (last !== undefined) {
        yield* send(events.map(frame).join(""))
        after = last.sequence
        beatAt = now
        pause = longestPauseMillis
      } else if (now - beatAt >= heartbeatMillis) {
        yield* send(": still here\n\n")
        beatAt = now
      }
      if (events.length === pageSize) continue
      // The bus speaks before the outbox has marked the event published, so a wake is followed by a few close looks.
      const woken = yield* watcher.next.pipe(
        Effect.as(true),
        Effect.timeoutTo({
          duration: Math.min(pause, checkedAt + keyCheckMillis - now),
          onSuccess: (woke) => woke,
          onTimeout: () => false,
        }),
        Effect.raceFirst(drained),
      )
      pause = woken ? 20 : Math.min(pause * 2, longestPauseMillis)
      if (woken) yield* Effect.sleep("5 millis")
    }
  })
  yield* loop.pipe(
    Effect.catchTag("DependencyUnavailable", (error) =>
      Effect.logWarning(`an event stream ended: ${error.dependency} unavailable`, error.cause),
    ),
    Effect.ensuring(Effect.map(farewell, (text) => void (readiness.isDraining() ? res.end(text) : res.end()))),
  )
}, Effect.scoped)
