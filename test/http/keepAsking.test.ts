import { describe, expect, it } from "@effect/vitest"
import { Context, Effect } from "effect"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Settings } from "../../src/Config.ts"
import type { ArtifactId, CredentialId, ProjectHandle } from "../../src/domain/Ids.ts"
import { keepAsking, renewal, type Upload } from "../../src/publish/Upload.ts"

/** Asks every 10 ms. */
const settings = { abandonedAfterSeconds: 0.04 } as Context.Tag.Service<typeof Settings>
const refusal = new Error("the right has ended")

/** Keeps asking for so long; returns what `stop` was aborted with. */
const asked = <E>(ask: Effect.Effect<void, E | DependencyUnavailable>, millis: number) =>
  Effect.gen(function* () {
    const stop = new AbortController()
    yield* Effect.scoped(Effect.zipRight(keepAsking(ask, stop), Effect.sleep(millis)))
    return stop.signal.reason as unknown
  }).pipe(Effect.provideService(Settings, settings))

describe("an open upload asks for its right again and again", () => {
  it.live("until its end, and is stopped by a refusal", () =>
    Effect.gen(function* () {
      let times = 0
      const ask = Effect.suspend(() => (++times < 3 ? Effect.void : Effect.fail(refusal)))
      expect(yield* asked(ask, 300)).toBe(refusal)
      const sofar = times
      expect(sofar).toBeGreaterThanOrEqual(3)
      yield* Effect.sleep(50)
      expect(times).toBe(sofar)
    }),
  )
  it.live("and is not stopped by a dependency that is away", () =>
    Effect.gen(function* () {
      let times = 0
      const away = new DependencyUnavailable({ dependency: "postgres", operation: "a test", cause: undefined })
      const ask = Effect.suspend(() => {
        times++
        return Effect.fail(away)
      })
      expect(yield* asked(ask, 200)).toBeUndefined()
      expect(times).toBeGreaterThan(1)
    }),
  )
  it.live("one question at a time, of which none goes on after its end", () =>
    Effect.gen(function* () {
      let [begun, ended] = [0, 0]
      const ask = Effect.gen(function* () {
        begun++
        yield* Effect.sleep(150)
        ended++
      })
      yield* asked(ask, 100)
      yield* Effect.sleep(300)
      expect([begun, ended]).toEqual([1, 0])
    }),
  )
  it.live("and a renewal that its commit overtakes brings no reservation back", () =>
    Effect.gen(function* () {
      const upload: Upload = {
        id: "art_1" as ArtifactId,
        project: "tenant" as ProjectHandle,
        blobKey: "tenant/art_1",
        reservedBytes: 1000,
        over: false,
      }
      let [rows, reservations] = [0, 0]
      const metadata = {
        renew: () =>
          Effect.zipRight(
            Effect.sync(() => void rows++),
            Effect.sleep(150),
          ),
      } as unknown as Context.Tag.Service<typeof MetadataStore>
      const quota = {
        renew: () => Effect.sync(() => void reservations++),
      } as unknown as Context.Tag.Service<typeof QuotaCounters>
      const right = { project: upload.project, keyId: "cred_1" as CredentialId, lineage: undefined, lease: undefined }
      const open = Effect.gen(function* () {
        yield* keepAsking(renewal(upload, right, Effect.void), new AbortController())
        yield* Effect.sleep(100)
        upload.over = true
        yield* Effect.sleep(150)
      })
      yield* Effect.scoped(open).pipe(
        Effect.provideService(Settings, settings),
        Effect.provideService(MetadataStore, metadata),
        Effect.provideService(QuotaCounters, quota),
        Effect.provideService(LeaseVerifier, {} as Context.Tag.Service<typeof LeaseVerifier>),
      )
      expect(rows).toBeGreaterThan(0)
      expect(reservations).toBe(0)
    }),
  )
})
