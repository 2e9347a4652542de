import { Clock, Context, Deferred, Effect, FiberId, Layer, RcRef, Schedule, type Scope } from "effect"
import { Authenticator } from "../../../services/Authenticator.ts"
import type { CredentialId } from "../../domain/Ids.ts"

/**
 * Ends open event streams whose key is dead. One statement asks for the keys of all streams of this process: every 4 s,
 * and within a second after a stream with another key was opened, for that key may have come from a cache. So a
 * revocation reaches every stream within 5 s.
 */
export class KeyWatch extends Context.Tag("src/http/KeyWatch")<
  KeyWatch,
  {
    /**
     * An effect that returns when the key was revoked or expired, or when it could not be confirmed for 10 s because the
     * database is away.
     */
    readonly watch: (key: CredentialId) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  }
>() {}

interface Watched {
  streams: number
  readonly dead: Deferred.Deferred<void>
  /** When it was asked for last with success. Milliseconds, as all times here. */
  confirmedAt: number
  checked: boolean
}

const tickMillis = 1_000
/** Less than 4 s by part of a tick, so that it is the fourth tick after the last check. */
const checkMillis = 4_000 - tickMillis / 2
const unconfirmedMillis = 10_000

export const layer = Layer.scoped(
  KeyWatch,
  Effect.gen(function* () {
    const authenticator = yield* Authenticator
    const keys = new Map<CredentialId, Watched>()

    const end = (key: CredentialId, { dead }: Watched) => {
      keys.delete(key)
      Deferred.unsafeDone(dead, Effect.void)
    }
    const isDue = (now: number) =>
      [...keys.values()].some(({ checked, confirmedAt }) => !checked || now - confirmedAt >= checkMillis)

    const check = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if (!isDue(now)) return
      const asked = [...keys]
      const valid = yield* authenticator.stillValid(asked.map(([key]) => key))
      for (const [key, watched] of asked) {
        if (keys.get(key) !== watched) continue
        if (!valid.has(key)) end(key, watched)
        watched.checked = true
        watched.confirmedAt = now
      }
    }).pipe(
      Effect.catchAll((fault) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const lost = [...keys].filter(([, { confirmedAt }]) => now - confirmedAt >= unconfirmedMillis)
          for (const [key, watched] of lost) end(key, watched)
          return lost.length === 0
            ? Effect.void
            : Effect.logWarning("Event streams ended: their keys cannot be checked.", fault.cause)
        }),
      ),
    )

    const work = yield* RcRef.make({
      acquire: Effect.forkScoped(Effect.repeat(Effect.delay(check, tickMillis), Schedule.forever)),
      idleTimeToLive: "10 seconds",
    })

    return KeyWatch.of({
      watch: (key) =>
        Effect.acquireRelease(
          Effect.map(Clock.currentTimeMillis, (now) => {
            const fresh: Watched = {
              streams: 0,
              dead: Deferred.unsafeMake(FiberId.none),
              confirmedAt: now,
              checked: false,
            }
            const watched = keys.get(key) ?? fresh
            watched.streams++
            keys.set(key, watched)
            return watched
          }),
          (watched) =>
            Effect.sync(() => {
              if (--watched.streams === 0 && keys.get(key) === watched) keys.delete(key)
            }),
        ).pipe(
          Effect.tap(() => RcRef.get(work)),
          Effect.map(({ dead }) => Deferred.await(dead)),
        ),
    })
  }),
)
