import type { SourceEvent } from "../../domain/SourceEvent.ts"

/** Looks that are kept: a reader that is not further behind than these needs no statement of its own. */
const keptLooks = 4

interface Found {
  readonly upto: number
  readonly events: ReadonlyMap<string, ReadonlyArray<SourceEvent>>
}

/**
 * What the latest looks of a process found for the projects somebody watched, so that their readers share it. It covers
 * all sequences from `from`, exclusive, to the last look's end. Bounded: few looks, and no look adds more than its limit.
 */
export const makeRecentEvents = () => {
  let from = Number.POSITIVE_INFINITY
  let looks: ReadonlyArray<Found> = []
  return {
    /** Forgets everything; the next look begins after this position. */
    restart: (position: number): void => {
      from = position
      looks = []
    },
    /** A look that ended at `upto` found these, by sequence. */
    add: (upto: number, found: ReadonlyArray<SourceEvent>): void => {
      if (found.length === 0) return
      looks = [...looks, { upto, events: Map.groupBy(found, ({ artifact }) => artifact.project as string) }]
      while (looks.length > keptLooks) {
        from = looks[0]?.upto ?? from
        looks = looks.slice(1)
      }
    },
    /** The project's events after a position; undefined when some of them may not be kept any more. */
    after: (project: string, position: number): ReadonlyArray<SourceEvent> | undefined =>
      position < from
        ? undefined
        : looks
            .filter(({ upto }) => upto > position)
            .flatMap(({ events }) => events.get(project) ?? [])
            .filter(({ sequence }) => sequence > position),
  }
}
