import { Effect, Layer } from "effect"
import { StaleListing, StoreGuard } from "../../services/StoreGuard.ts"
import { atomically, instant, MemoryDatabase } from "../clients/Memory.ts"

/** How long a mark is known after a later one was written: a copy of the store may be as old as that. */
const knownMillis = 30 * 86_400_000

/** Over the shared memory database. */
export const layer = Layer.effect(
  StoreGuard,
  Effect.gen(function* () {
    const state = yield* MemoryDatabase
    const { store } = state
    const placing = yield* Effect.makeSemaphore(1)
    /** Rises with every event written. */
    const position = () => state.lastSequence + state.events.filter(({ sequence }) => sequence === undefined).length

    return StoreGuard.of({
      identity: Effect.sync(() => ({ id: store.id, placed: store.placed })),
      placeOnce: (place) =>
        placing.withPermits(1)(
          Effect.suspend(() =>
            store.placed
              ? Effect.succeed(undefined)
              : Effect.tap(place(store.id), () =>
                  Effect.sync(() => {
                    store.placed = true
                  }),
                ),
          ),
        ),
      hold: Effect.sync(() => store.hold),
      holdRemovals: (reason) =>
        atomically((now) =>
          Effect.sync(() => {
            if (store.hold !== undefined) return false
            store.hold = { reason, since: instant(now) }
            return true
          }),
        ),
      release: Effect.sync(() => {
        store.hold = undefined
        store.candidates.clear()
      }),
      mark: (last) =>
        atomically((now) =>
          Effect.sync(() => {
            const known = last === undefined ? undefined : store.marks.get(last)
            if (known?.position === position()) return undefined
            const id = crypto.randomUUID()
            store.marks.set(id, { position: position(), madeAt: now })
            return { id, sequence: state.lastSequence, madeAt: instant(now) }
          }),
        ),
      knowsMark: (id) => Effect.sync(() => store.marks.has(id)),
      markWritten: (id) =>
        Effect.sync(() => {
          const written = store.marks.get(id)
          if (written === undefined) return
          for (const [each, { madeAt }] of store.marks)
            if (madeAt < written.madeAt - knownMillis) store.marks.delete(each)
        }),
      sequence: Effect.sync(() => state.lastSequence),
      takeListing: Effect.sync(() => ({ epoch: ++store.listing.epoch, after: store.listing.after })),
      advanceListing: (epoch, after) =>
        Effect.suspend(() => {
          if (store.listing.epoch !== epoch) return new StaleListing({ epoch })
          store.listing.after = after
          return Effect.void
        }),
      suspect: (keys) =>
        atomically((now) =>
          Effect.sync(() => {
            const fresh = keys.filter((key) => !store.candidates.has(key))
            for (const key of fresh) store.candidates.set(key, { firstSeenAt: now, handedAt: 0 })
            return fresh.length
          }),
        ),
      dueCandidates: ({ confirmSeconds, limit }) =>
        atomically((now) =>
          Effect.sync(() =>
            store.hold !== undefined
              ? []
              : [...store.candidates]
                  .filter(([, { firstSeenAt }]) => firstSeenAt <= now - confirmSeconds * 1000)
                  .sort(([, a], [, b]) => a.handedAt - b.handedAt || a.firstSeenAt - b.firstSeenAt)
                  .slice(0, limit)
                  .map(([key, candidate]) => {
                    candidate.handedAt = ++store.turn
                    return key
                  }),
          ),
        ),
      settle: (keys) => Effect.sync(() => keys.filter((key) => store.candidates.delete(key)).length),
    })
  }),
)
