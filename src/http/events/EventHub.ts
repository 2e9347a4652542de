import { Context, Effect, Layer, RcRef, Schedule, type Scope, Stream } from "effect"
import { EventBus } from "../../../services/EventBus.ts"

/** Told when its project has something new. */
export interface Watcher {
  /** Returns at once when something came since the last return, else when it comes. */
  readonly next: Effect.Effect<void>
}

/**
 * Wakes the open event streams of this process. It has one subscription to the bus while any stream is open, and
 * says only that something came: what it was, each stream reads from the outbox as its caller may see it.
 */
export class EventHub extends Context.Tag("src/http/EventHub")<
  EventHub,
  { readonly watch: (project: string) => Effect.Effect<Watcher, never, Scope.Scope> }
>() {}

interface Slot {
  signalled: boolean
  wake: (() => void) | undefined
}

const nextOf = (slot: Slot): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (slot.signalled) {
      slot.signalled = false
      return resume(Effect.void)
    }
    slot.wake = () => {
      slot.wake = undefined
      slot.signalled = false
      resume(Effect.void)
    }
    return Effect.sync(() => {
      slot.wake = undefined
    })
  })

export const layer = Layer.scoped(
  EventHub,
  Effect.gen(function* () {
    const bus = yield* EventBus
    const slots = new Map<string, Set<Slot>>()
    const notify = (project: string) =>
      Effect.sync(() => {
        for (const slot of slots.get(project) ?? []) {
          slot.signalled = true
          slot.wake?.()
        }
      })
    let broken = false
    const following = Effect.flatMap(bus.top, (top) => {
      broken = false
      // What came before the subscription stood was seen by nobody.
      return Effect.zipRight(
        Effect.suspend(() => Effect.forEach([...slots.keys()], notify, { discard: true })),
        Stream.runForEach(bus.subscribe(top), (entry) => notify(entry.project)),
      )
    }).pipe(
      // Once an outage, for it is tried each second.
      Effect.tapErrorCause((cause) => {
        const first = !broken
        broken = true
        return first ? Effect.logWarning("the subscription to the event bus broke", cause) : Effect.void
      }),
      Effect.ignore,
      Effect.repeat(Schedule.spaced("1 second")),
    )
    // Only while somebody watches: otherwise every pod would read every event for nothing.
    const subscription = yield* RcRef.make({ acquire: Effect.forkScoped(following), idleTimeToLive: "10 seconds" })
    return EventHub.of({
      watch: (project) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const slot: Slot = { signalled: false, wake: undefined }
            const watching = slots.get(project) ?? new Set()
            slots.set(project, watching.add(slot))
            return slot
          }),
          (slot) =>
            Effect.sync(() => {
              const watching = slots.get(project)
              watching?.delete(slot)
              if (watching?.size === 0) slots.delete(project)
            }),
        ).pipe(
          Effect.tap(() => RcRef.get(subscription)),
          Effect.map((slot) => ({ next: nextOf(slot) })),
        ),
    })
  }),
)
