import { Chunk, Effect, Layer, Option, Stream, SubscriptionRef } from "effect"
import { type Appended, type BusEntry, EventBus } from "../../services/EventBus.ts"
import { traced } from "../../src/telemetry/Spans.ts"

interface Log {
  readonly top: number
  readonly entries: ReadonlyArray<BusEntry>
}

const make = (options: { readonly maxLength: number }) =>
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<Log>({ top: 0, entries: [] })
    return EventBus.of({
      maxLength: options.maxLength,
      top: Effect.map(state.get, ({ top }) => top),
      append: traced("EventBus.append")((expectedTop, added) =>
        SubscriptionRef.modify(state, (before): readonly [Appended, Log] => {
          if (before.top !== expectedTop) return [{ _tag: "Elsewhere", top: before.top }, before]
          const entries = [...before.entries, ...added].slice(-options.maxLength)
          return [{ _tag: "Appended" }, { top: added.at(-1)?.sequence ?? before.top, entries }]
        }),
      ),
      idAt: (sequence) =>
        Effect.map(state.get, ({ entries }) => entries.find((entry) => entry.sequence === sequence)?.id),
      standing: (from, limit) =>
        Effect.map(state.get, ({ entries }) => entries.filter(({ sequence }) => sequence >= from).slice(0, limit)),
      subscribe: (after) =>
        Stream.unfoldChunkEffect(after, (last) =>
          state.changes.pipe(
            Stream.map(({ entries }) => entries.filter((entry) => entry.sequence > last)),
            Stream.filter((fresh) => fresh.length > 0),
            Stream.runHead,
            Effect.map(Option.map((fresh) => [Chunk.fromIterable(fresh), fresh.at(-1)?.sequence ?? last] as const)),
          ),
        ),
      ping: Effect.void,
    })
  })

/** A stream of one process, for tests and for programs without a bus. */
export const layer = (options: { readonly maxLength: number }) => Layer.effect(EventBus, make(options))
