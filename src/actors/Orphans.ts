import { Chunk, Clock, DateTime, Effect, Metric, Stream } from "effect"
import { BlobStore, type BlobStat } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { traced } from "../telemetry/Spans.ts"
import { listingsFinished, orphansRemoved, orphansSuspected, partialsRemoved } from "../telemetry/Store.ts"
import { checkWatermark } from "./Watermark.ts"

export interface SweepOptions {
  /** Nothing younger is looked at. */
  readonly ageSeconds: number
  /** Between the two looks at an object. */
  readonly confirmSeconds: number
  /** Of one run; the next one goes on where it stopped. */
  readonly budget: { readonly objects: number; readonly seconds: number }
}

/** Keys asked of the database at once, when listing and when removing. */
const page = 1000
const removalPage = 100
/** Keys named in the line that a run leaves in the log. */
const sampled = 3

/**
 * One run over the store for what nobody knows, written by a paused process after its upload was swept, say. Unfinished
 * writes of uploads that ended are removed. An unknown object is only remembered at the first look, and removed when a
 * second look, `confirmSeconds` later, finds it unknown still. While the database may be older than the store, nothing
 * unknown is removed at all. Any number of runs may go on at once: whoever takes the listing over ends the one before.
 */
export const sweepStore = traced("Orphans.sweepStore")(function* (options: SweepOptions) {
  const began = yield* Clock.currentTimeMillis
  const before = DateTime.unsafeMake(began - options.ageSeconds * 1000)
  const inTime = Effect.map(Clock.currentTimeMillis, (now) => now - began < options.budget.seconds * 1000)
  const hold = yield* checkWatermark()
  const partials = yield* removePartials(before, hold !== undefined)
  yield* Metric.incrementBy(partialsRemoved, partials)
  if (hold !== undefined)
    return yield* Effect.logWarning(
      `Objects that the database does not know are not removed: ${hold.reason} Look with \`npm run doctor\`.`,
    )
  const removed = yield* removeConfirmed(options.confirmSeconds, before, inTime)
  const { finished, listed, suspected } = yield* listSlice(before, options.budget.objects, inTime)
  yield* Metric.incrementBy(orphansSuspected, suspected.count)
  if (finished) yield* Metric.increment(listingsFinished)
  const found = removed.count > 0 || suspected.count > 0 || partials > 0
  yield* (found ? Effect.logInfo : Effect.logDebug)("The store was swept.").pipe(
    Effect.annotateLogs({
      listed,
      finished,
      suspected: suspected.count,
      suspected_keys: suspected.sample.join(" "),
      removed: removed.count,
      removed_keys: removed.sample.join(" "),
      partial_writes_removed: partials,
    }),
  )
})

/** Unfinished writes of that age whose upload has ended; with `onlyKnown` not those that the database does not know. */
const removePartials = Effect.fnUntraced(function* (before: DateTime.Utc, onlyKnown: boolean) {
  const metadata = yield* MetadataStore
  const blobs = yield* BlobStore
  return yield* blobs.partials.pipe(
    Stream.filter(({ touchedAt }) => DateTime.lessThan(touchedAt, before)),
    Stream.grouped(page),
    Stream.runFoldEffect(0, (count, group) =>
      Effect.gen(function* () {
        const keys = Chunk.toReadonlyArray(group).map(({ key }) => key)
        const spared = new Set(yield* metadata.uploadingBlobKeys(keys))
        if (onlyKnown) for (const key of yield* metadata.unknownBlobKeys(keys)) spared.add(key)
        const dead = Chunk.toReadonlyArray(group).filter(({ key }) => !spared.has(key))
        yield* Effect.forEach(dead, blobs.removePartial, { concurrency: 8, discard: true })
        return count + dead.length
      }),
    ),
  )
})

/** The second look, and the removal of what it confirms. Each batch asks anew whether removals are held. */
const removeConfirmed = Effect.fnUntraced(function* (
  confirmSeconds: number,
  before: DateTime.Utc,
  inTime: Effect.Effect<boolean>,
) {
  const guard = yield* StoreGuard
  const metadata = yield* MetadataStore
  const sample: Array<string> = []
  let count = 0
  for (let more = true; more && (yield* inTime);) {
    if ((yield* checkWatermark()) !== undefined) break
    const due = yield* guard.dueCandidates({ confirmSeconds, limit: removalPage })
    more = due.length === removalPage
    const unknown = new Set(yield* metadata.unknownBlobKeys(due))
    yield* guard.settle(due.filter((key) => !unknown.has(key)))
    const removed = yield* Effect.forEach(unknown, (key) => removeOrphan(key, before), { concurrency: 8 })
    const gone = removed.filter((key) => key !== undefined)
    count += gone.length
    sample.push(...gone.slice(0, sampled - sample.length))
  }
  return { count, sample }
})

/** Removes an object that both looks found unknown. Returns its key if this caller did it; a failure leaves it for later. */
const removeOrphan = (key: string, before: DateTime.Utc) =>
  Effect.gen(function* () {
    const blobs = yield* BlobStore
    const guard = yield* StoreGuard
    const { modifiedAt, size } = yield* blobs.stat(key)
    if (!DateTime.lessThan(modifiedAt, before)) return undefined
    yield* blobs.remove(key)
    if ((yield* guard.settle([key])) === 0) return undefined
    yield* Metric.increment(orphansRemoved)
    yield* Effect.logInfo("An object was removed that two looks found unknown to the database.").pipe(
      Effect.annotateLogs({ blob_key: key, size, modified_at: DateTime.formatIso(modifiedAt) }),
    )
    return key
  }).pipe(
    Effect.catchTag("BlobMissing", () =>
      Effect.as(
        Effect.flatMap(StoreGuard, (guard) => guard.settle([key])),
        undefined,
      ),
    ),
    Effect.catchTag("DependencyUnavailable", (fault) =>
      Effect.as(Effect.logWarning("An unknown object could not be removed; a later run will.", fault), undefined),
    ),
  )

interface Slice {
  readonly listed: number
  readonly count: number
  readonly sample: ReadonlyArray<string>
  readonly inTime: boolean
}

/** The first look: lists on from where the last run stopped, for as long as the budget lasts. */
const listSlice = (before: DateTime.Utc, most: number, inTime: Effect.Effect<boolean>) =>
  Effect.gen(function* () {
    const blobs = yield* BlobStore
    const guard = yield* StoreGuard
    const metadata = yield* MetadataStore
    const { after, epoch } = yield* guard.takeListing
    const goesOn = (slice: Slice) => slice.inTime && slice.listed < most
    const look = (slice: Slice, group: Chunk.Chunk<BlobStat>) =>
      Effect.gen(function* () {
        const aged = Chunk.toReadonlyArray(group).filter(({ modifiedAt }) => DateTime.lessThan(modifiedAt, before))
        const unknown = yield* metadata.unknownBlobKeys(aged.map(({ key }) => key))
        const fresh = unknown.length === 0 ? 0 : yield* guard.suspect(unknown)
        yield* guard.advanceListing(epoch, Chunk.unsafeLast(group).key)
        return {
          listed: slice.listed + group.length,
          count: slice.count + fresh,
          sample: fresh === 0 ? slice.sample : [...slice.sample, ...unknown].slice(0, sampled),
          inTime: yield* inTime,
        }
      })
    const start: Slice = { listed: 0, count: 0, sample: [], inTime: true }
    const slice = yield* blobs
      .list({ after })
      .pipe(Stream.grouped(page), Stream.runFoldWhileEffect(start, goesOn, look))
    const finished = goesOn(slice)
    if (finished) yield* guard.advanceListing(epoch, undefined)
    return { listed: slice.listed, finished, suspected: { count: slice.count, sample: slice.sample } }
  }).pipe(
    Effect.catchTag("StaleListing", () =>
      Effect.as(Effect.logInfo("Another pod has taken the listing of the store over."), {
        listed: 0,
        finished: false,
        suspected: { count: 0, sample: [] },
      }),
    ),
  )
