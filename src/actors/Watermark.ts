import { DateTime, Effect, Option, Schema } from "effect"
import { BlobStore } from "../../services/BlobStore.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { traced } from "../telemetry/Spans.ts"

/** What stands in the store: a state that its database once had. */
const Watermark = Schema.parseJson(
  Schema.Struct({ mark: Schema.String, sequence: Schema.Int, made_at: Schema.DateTimeUtc }),
)
const encode = Schema.encodeSync(Watermark)
const decode = Schema.decodeUnknownOption(Watermark)

/** Holds the removal of unknown objects; one line in the log when the hold is new. */
export const holdRemovals = (reason: string) =>
  Effect.gen(function* () {
    if (yield* (yield* StoreGuard).holdRemovals(reason))
      yield* Effect.logWarning(
        `Objects that the database does not know are not removed from now on: ${reason} ` +
          "Look with `npm run doctor`, then clear this with `npm run doctor -- --accept-restore`.",
      )
  })

/**
 * What the store's mark says of the database. A mark that this database never made was made by a newer state of it, which
 * is lost: Postgres was restored, or failed over to a replica that lagged. Changes nothing.
 */
export const readMark = Effect.gen(function* () {
  const guard = yield* StoreGuard
  const text = yield* (yield* BlobStore).watermark
  if (text === undefined) return { _tag: "None" } as const
  const found = Option.getOrUndefined(decode(text))
  if (found === undefined) return { _tag: "Doubt", reason: "the store's watermark cannot be read." } as const
  if (yield* guard.knowsMark(found.mark)) return { _tag: "Known", mark: found.mark } as const
  const reason =
    `the store was marked at ${DateTime.formatIso(found.made_at)} by a newer state of the database ` +
    `(event sequence ${found.sequence}; the one that runs has ${yield* guard.sequence}).`
  return { _tag: "Doubt", reason } as const
})

/** The mark the store has, if there is no doubt about it; with one, removals are held. */
const checkedMark = Effect.gen(function* () {
  const found = yield* readMark
  if (found._tag === "Doubt") yield* holdRemovals(found.reason)
  return found._tag === "Known" ? found.mark : undefined
})

/** Holds the store against the database; returns why unknown objects must not be removed, if so. */
export const checkWatermark = traced("Watermark.check")(function* () {
  yield* checkedMark
  return yield* (yield* StoreGuard).hold
})

/**
 * Marks the store with the database's present state, if anything was written since the last mark. Never while removals
 * are held: the mark in the store is what says that the database is the older one.
 */
export const markStore = traced("Watermark.mark")(function* () {
  const guard = yield* StoreGuard
  const last = yield* checkedMark
  if ((yield* guard.hold) === undefined) yield* writeMark(last)
})

const writeMark = Effect.fnUntraced(function* (last: string | undefined) {
  const guard = yield* StoreGuard
  const made = yield* guard.mark(last)
  if (made === undefined) return
  yield* (yield* BlobStore).setWatermark(encode({ mark: made.id, sequence: made.sequence, made_at: made.madeAt }))
  yield* guard.markWritten(made.id)
})

/** An operator's word that the database's present state is the right one: the store gets its mark, and the hold ends. */
export const acceptRestore = Effect.gen(function* () {
  yield* writeMark(undefined)
  yield* (yield* StoreGuard).release
})
