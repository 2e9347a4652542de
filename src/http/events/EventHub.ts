import { Context, Effect, Layer, Queue, RcRef, Schedule, type Scope, Stream } from "effect"
import { EventBus } from "../../../services/EventBus.ts"
import { Outbox } from "../../../services/Outbox.ts"

/** Waits for events of one project. */
export interface Watcher {
  /**
   * Returns once the project may have events after this position, at once when it has them already. Who read up to
   * this position after it began to watch misses none.
   */
  readonly next: (after: number) => Effect.Effect<void>
}

/**
 * Wakes the readers of this process that wait for events. However many there are, one look at the outbox serves all of
 * them: each second, and when the bus tells of an event. It wakes those whose project has something new; what that is,
 * each reads from the outbox as its caller may see it. While nobody waits there is neither a look nor a subscription.
 */
export class EventHub extends Context.Tag("src/http/EventHub")<
  EventHub,
  { readonly watch: (project: string) => Effect.Effect<Watcher, never, Scope.Scope> }
>() {}

interface Waiter {
  readonly after: number
  readonly wake: () => void
}

interface Watched {
  /** The last sequence of the project that a look found; lower ones were there for whoever read after it. */
  last: number
  watchers: number
  readonly waiting: Set<Waiter>
}

const longestPauseMillis = 1_000
/** After the bus told of an event that the outbox has not marked yet; doubled until it has. */
const shortestPauseMillis = 10
/** Events that come together are found by one look. */
const gather = "5 millis"

const nextOf = (watched: Watched, after: number): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (watched.last > after) return resume(Effect.void)
    const waiter: Waiter = {
      after,
      wake: () => {
        watched.waiting.delete(waiter)
        resume(Effect.void)
      },
    }
    watched.waiting.add(waiter)
    return Effect.sync(() => void watched.waiting.delete(waiter))
  })

/** Runs again a second after it ended. An outage is logged once. */
const persistently = <E>(what: string, effect: (works: () => void) => Effect.Effect<void, E>) =>
  Effect.suspend(() => {
    let broken = false
    return Effect.suspend(() => effect(() => (broken = false))).pipe(
      Effect.tapErrorCause((cause) => {
        const first = !broken
        broken = true
        return first ? Effect.logWarning(what, cause) : Effect.void
      }),
      Effect.ignore,
      Effect.repeat(Schedule.spaced("1 second")),
    )
  })

export const layer = Layer.scoped(
  EventHub,
  Effect.gen(function* () {
    const bus = yield* EventBus
    const outbox = yield* Outbox
    const projects = new Map<string, Watched>()
    const told = yield* Queue.sliding<void>(1)
    /** The last sequence that the bus told of. */
    let heard = 0

    const announce = (project: string, last: number) => {
      const watched = projects.get(project)
      if (watched === undefined) return
      watched.last = Math.max(watched.last, last)
      for (const waiter of watched.waiting) if (waiter.after < watched.last) waiter.wake()
    }
    /** All read for themselves once: what came before this position was looked for by nobody. */
    const beginAt = (position: number) => {
      for (const watched of projects.values()) {
        watched.last = position
        for (const waiter of watched.waiting) waiter.wake()
      }
    }

    const following = persistently("the subscription to the event bus broke", (works) =>
      Effect.flatMap(bus.top, (top) => {
        works()
        const hear = (sequence: number) =>
          Effect.sync(() => {
            heard = sequence
            told.unsafeOffer(undefined)
          })
        return Effect.zipRight(
          hear(top),
          Stream.runForEach(bus.subscribe(top), ({ sequence }) => hear(sequence)),
        )
      }),
    )

    const looking = Effect.suspend(() => {
      let position: number | undefined
      return persistently("open event streams cannot look for new events", (works) =>
        Effect.gen(function* () {
          for (let pause = longestPauseMillis; ;) {
            const news = yield* outbox.news(position)
            works()
            // At first, and when the database went back to an earlier state.
            if (position === undefined || news.examined < position) beginAt(news.examined)
            for (const { last, project } of news.projects) announce(project, last)
            position = news.examined
            if (news.more) continue
            pause = heard > position ? Math.min(2 * pause, longestPauseMillis) : longestPauseMillis
            const woken = yield* Effect.timeoutOption(Queue.take(told), pause)
            if (woken._tag === "None") continue
            yield* Effect.sleep(gather)
            pause = shortestPauseMillis
          }
        }),
      )
    })

    const work = yield* RcRef.make({
      acquire: Effect.forkScoped(Effect.all([following, looking], { concurrency: 2, discard: true })),
      idleTimeToLive: "10 seconds",
    })

    return EventHub.of({
      watch: (project) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const watched: Watched = projects.get(project) ?? { last: 0, watchers: 0, waiting: new Set() }
            watched.watchers++
            projects.set(project, watched)
            return watched
          }),
          (watched) =>
            Effect.sync(() => {
              if (--watched.watchers === 0) projects.delete(project)
            }),
        ).pipe(
          Effect.tap(() => RcRef.get(work)),
          Effect.map((watched) => ({ next: (after) => nextOf(watched, after) })),
        ),
    })
  }),
)
