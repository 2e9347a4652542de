import { Chunk, Effect, Stream } from "effect"
import { EventBus } from "../../services/EventBus.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"

/** All pages of what is asked for page by page; the next page comes after the last item of the one before. */
export const pages = <A, E, R>(page: (after: A | undefined) => Effect.Effect<ReadonlyArray<A>, E, R>) =>
  Effect.gen(function* () {
    const found: Array<A> = []
    for (let more = true; more;) {
      const next = yield* page(found.at(-1))
      found.push(...next)
      more = next.length > 0
    }
    return found
  })

/** What stands in the stream, in its order. `fact`: e.g. `artifact.created art_…`. */
export const factsOfStream = Effect.gen(function* () {
  const bus = yield* EventBus
  const standing = yield* pages<{ readonly sequence: number; readonly id: string }, DependencyUnavailable, never>(
    (last) => bus.standing((last?.sequence ?? 0) + 1, 500),
  )
  const entries = yield* bus
    .subscribe(0)
    .pipe(Stream.take(standing.length), Stream.runCollect, Effect.timeout("20 seconds"))
  return Chunk.toReadonlyArray(entries).map(({ id, payload, sequence }) => {
    const { event_type, source_id } = JSON.parse(payload)
    return { id, sequence, fact: `${event_type} ${source_id}` }
  })
})
