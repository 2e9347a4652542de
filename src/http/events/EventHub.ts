import { Chunk, Context, Effect, Layer, Queue, RcRef, Schedule, type Scope, Stream } from "effect"
import { EventBus } from "../../../services/EventBus.ts"
import { Outbox } from "../../../services/Outbox.ts"
import type { SourceEvent } from "../../domain/SourceEvent.ts"
import { makeRecentEvents } from "./RecentEvents.ts"

/** Waits for events of one project. */
export interface Watcher {
  /**
   * Returns once the project may have events after this position, at once when it has them already. Who read up to
   * this position after it began to watch misses none.
   */
  readonly next: (after: number) => Effect.Effect<void>
  /**
   * The project's events after this position as the last look found them, all of them, whoever may see them; undefined
   * when that is not known here and the outbox must be asked. `examined` is where that look ended.
   */
  readonly recent: (
    after: number,
  ) => { readonly events: ReadonlyArray<SourceEvent>; readonly examined: number } | undefined
}

/**
 * Wakes the readers of this process that wait for events. However many there are, one look at the outbox serves all of
 * them: each second, and when the bus tells of an event. It reads what is new in the projects somebody waits for and
 * wakes their readers, who share it; who lags behind reads from the outbox. While nobody waits there is neither a look
 * nor a subscription.
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
  /** The last sequence of the project that a look found. */
  last: number
  /** The position from which on looks were for this project, too; undefined before the first. */
  since: number | undefined
  watchers: number
  readonly waiting: Set<Waiter>
}

const longestPauseMillis = 1_000
/** After the bus told of an event that the outbox has not marked yet; doubled until it has. */
const shortestPauseMillis = 10
/** Events that come together are found by one look. The more readers a look woke, the later is the next one. */
const gatherMillis = 5
const gatherMillisPerReader = 0.2
/** A look with more events than these is not shared: its readers go to the outbox, a page at a time. */
const sharedAtMost = 500

const wokenAtOnce = 50
/** Whatever else is due in this process has its turn. */
const nextTurn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

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
    const recent = makeRecentEvents()
    /** The last sequence that the bus told of. */
    let heard = 0
    /** Where the last look ended; undefined before the first. */
    let position: number | undefined

    /** Wakes some at a time, so that thousands do not keep requests waiting. Who left meanwhile is woken in vain. */
    const wakeAll = (waiters: ReadonlyArray<Waiter>) =>
      Effect.forEach(Chunk.chunksOf(Chunk.fromIterable(waiters), wokenAtOnce), (some) =>
        Effect.zipRight(
          Effect.sync(() => Chunk.forEach(some, ({ wake }) => wake())),
          nextTurn,
        ),
      )
    /** All read for themselves once: what came before this position was looked for by nobody. */
    const beginAt = (at: number) => {
      recent.restart(at)
      for (const watched of projects.values()) {
        watched.last = at
        watched.since = undefined
        for (const waiter of watched.waiting) waiter.wake()
      }
    }
    /** One look; returns whether there is more at once, and how many readers it woke. */
    const look = Effect.gen(function* () {
      for (const watched of projects.values()) watched.since ??= position
      const before = position
      const news = yield* outbox.news(before)
      // At first, and when the database went back to an earlier state.
      if (before === undefined || news.examined < before) {
        beginAt(news.examined)
        position = news.examined
        return { more: news.more, woken: 0 }
      }
      const found = news.projects.flatMap(({ last, project }) => {
        const watched = projects.get(project)
        return watched === undefined ? [] : [{ last, project, watched }]
      })
      if (found.length > 0) {
        const events = yield* outbox.read({
          from: before + 1,
          to: news.examined,
          projects: found.map(({ project }) => project),
          limit: sharedAtMost + 1,
        })
        const read = new Set(events.map(({ sequence }) => sequence))
        if (events.length > sharedAtMost) recent.restart(news.examined)
        else if (found.every(({ last }) => read.has(last))) recent.add(news.examined, events)
        // The database failed over between both statements, to one that knows less.
        else return { more: false, woken: 0 }
      }
      position = news.examined
      const due = found.flatMap(({ last, watched }) => {
        watched.last = Math.max(watched.last, last)
        return [...watched.waiting].filter(({ after }) => after < last)
      })
      yield* wakeAll(due)
      return { more: news.more, woken: due.length }
    })

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
      position = undefined
      return persistently("open event streams cannot look for new events", (works) =>
        Effect.gen(function* () {
          for (let pause = longestPauseMillis; ;) {
            const { more, woken } = yield* look
            works()
            if (more) continue
            pause = heard > (position ?? 0) ? Math.min(2 * pause, longestPauseMillis) : longestPauseMillis
            yield* Effect.sleep(Math.min(woken * gatherMillisPerReader, longestPauseMillis))
            const rung = yield* Effect.timeoutOption(Queue.take(told), pause)
            if (rung._tag === "None") continue
            yield* Effect.sleep(gatherMillis)
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
            const watched: Watched = projects.get(project) ?? {
              last: 0,
              since: undefined,
              watchers: 0,
              waiting: new Set(),
            }
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
          Effect.map((watched): Watcher => ({
            next: (after) => nextOf(watched, after),
            recent: (after) => {
              if (position === undefined || watched.since === undefined || after < watched.since) return undefined
              const events = watched.last <= after ? [] : recent.after(project, after)
              return events && { events, examined: Math.max(after, position) }
            },
          })),
        ),
    })
  }),
)
