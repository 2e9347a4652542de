import { Effect, Runtime } from "effect"

export interface Batching<A, B, E> {
  /** Batches under way at the same time. */
  readonly lanes: number
  /** Items in one batch. */
  readonly most: number
  /** Items of one group are never in two batches at the same time; absent: items have nothing to do with each other. */
  readonly groupOf?: (item: A) => string
  /** A batch holds items of one group only. */
  readonly oneGroup?: boolean
  /** One answer an item, in their order; failing answers all of them. */
  readonly run: (items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Effect.Effect<B, E>>, E>
}

interface Waiting<A, B, E> {
  readonly item: A
  readonly group: string | undefined
  readonly resume: (answer: Effect.Effect<B, E>) => void
}

/**
 * Group commit: whoever comes while all lanes are taken waits for the next batch and shares it with the others who do.
 * A lone caller waits for nobody but those of the same turn of the event loop. What a round trip, a transaction and its
 * sync cost is then shared by as many as there is load.
 */
export const batched = <A, B, E>({
  groupOf,
  lanes,
  most,
  oneGroup = false,
  run,
}: Batching<A, B, E>): Effect.Effect<(item: A) => Effect.Effect<B, E>> =>
  Effect.map(Effect.runtime(), (runtime) => {
    const fork = Runtime.runFork(runtime)
    const taken = new Set<string>()
    let waiting: Array<Waiting<A, B, E>> = []
    let running = 0
    let due = false

    const schedule = () => {
      if (due || running >= lanes || waiting.length === 0) return
      due = true
      setImmediate(dispatch)
    }

    /** The next batch, in the order of arrival, without the groups that are in another one. */
    const take = (): ReadonlyArray<Waiting<A, B, E>> => {
      const batch: Array<Waiting<A, B, E>> = []
      const rest: Array<Waiting<A, B, E>> = []
      const joins = ({ group }: Waiting<A, B, E>) =>
        batch.length < most &&
        (group === undefined || !taken.has(group)) &&
        (!oneGroup || batch.length === 0 || batch[0]?.group === group)
      for (const one of waiting) (joins(one) ? batch : rest).push(one)
      waiting = rest
      return batch
    }

    const dispatch = () => {
      due = false
      const batch = take()
      if (batch.length === 0) return
      running++
      for (const { group } of batch) if (group !== undefined) taken.add(group)
      // A batch belongs to none of its callers' traces.
      const work = Effect.withTracerEnabled(
        Effect.suspend(() => run(batch.map(({ item }) => item))),
        false,
      )
      fork(work).addObserver((exit) => {
        running--
        for (const { group } of batch) if (group !== undefined) taken.delete(group)
        if (exit._tag === "Failure") for (const { resume } of batch) resume(Effect.failCause(exit.cause))
        else
          for (const [index, { resume }] of batch.entries())
            resume(exit.value[index] ?? Effect.dieMessage("a batch did not answer all of its items"))
        schedule()
      })
      schedule()
    }

    return (item) =>
      Effect.async((resume) => {
        const one = { item, group: groupOf?.(item), resume }
        waiting.push(one)
        schedule()
        return Effect.sync(() => {
          waiting = waiting.filter((each) => each !== one)
        })
      })
  })
