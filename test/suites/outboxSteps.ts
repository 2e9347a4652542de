import { Effect } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import type { SourceEvent } from "../../src/domain/SourceEvent.ts"
import { callerOf, freshProject, publish } from "./fixtures.ts"

/** Everything written so far has its sequence and stands in the stream. */
export const settle = Effect.gen(function* () {
  const outbox = yield* Outbox
  yield* outbox.sequence(10_000)
  yield* outbox.markPublished(yield* outbox.read({ from: 1, limit: 10_000, unpublishedOnly: true }))
  return yield* outbox.state
})

export const eventsFrom = Effect.fn(function* (from: number, unpublishedOnly?: boolean) {
  return yield* (yield* Outbox).read({ from, limit: 10_000, unpublishedOnly })
})

export const sequences = (events: ReadonlyArray<SourceEvent>) => events.map(({ sequence }) => sequence)

export const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

export const publishMany = (caller: ProjectCaller, count: number) =>
  Effect.replicateEffect(publish(caller).pipe(Effect.map(({ artifact }) => artifact.id)), count)
