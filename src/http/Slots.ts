import { Clock, Data, Effect, type Scope } from "effect"
import { held } from "../Held.ts"

/** No slot is free for this project now. `node`: all are in use; `project`: it has the half that it may have now. */
export class SlotsTaken extends Data.TaggedError("SlotsTaken")<{ readonly by: "node" | "project" }> {}

/** A limited number of slots of this process, shared among projects. All state is in memory. */
export interface Slots {
  /**
   * Takes `size` slots (default 1) for a project, or refuses at once; it never waits. Returns what gives them back, which
   * has an effect only once.
   */
  readonly take: (project: string, size?: number) => Effect.Effect<() => void, SlotsTaken>
  /** `take` until the scope closes. */
  readonly enter: (project: string, size?: number) => Effect.Effect<void, SlotsTaken, Scope.Scope>
}

/** How long a project that was refused still counts as one that wants slots, in milliseconds. */
const wantedMillis = 30_000

/** The part of the limit that is kept beyond it. */
const keptPart = 16

/**
 * Makes `limit` slots. Two rules keep one project from taking a pod from the others; slots that are held are never taken
 * back:
 * - while another project holds a slot, or was refused one in the last 30 s, a project takes no more than half of them;
 * - a sixteenth more is kept beyond the limit, of which a project takes only as long as it holds fewer than are free. So
 *   where one project came first and took all, the next ones still find some, each fewer than the one before it.
 */
export const makeSlots = (limit: number): Slots => {
  const half = Math.max(1, Math.floor(limit / 2))
  /** Never a zero. */
  const holding = new Map<string, number>()
  /** When each project was refused last, oldest first. */
  const refused = new Map<string, number>()
  const kept = Math.floor(limit / keptPart)
  let free = limit + kept

  const others = (of: ReadonlyMap<string, unknown>, project: string) => of.size > (of.has(project) ? 1 : 0)

  const othersWant = (project: string, now: number): boolean => {
    for (const [name, at] of refused) {
      if (now - at <= wantedMillis) break
      refused.delete(name)
    }
    return others(holding, project) || others(refused, project)
  }

  const refusalOf = (project: string, size: number, now: number): SlotsTaken | undefined => {
    const own = holding.get(project) ?? 0
    if (size > free) return new SlotsTaken({ by: "node" })
    if (own + size > half && othersWant(project, now)) return new SlotsTaken({ by: "project" })
    if (size > free - kept && own + size > free) return new SlotsTaken({ by: "node" })
    return undefined
  }

  const move = (project: string, by: number): void => {
    free -= by
    const own = (holding.get(project) ?? 0) + by
    if (own === 0) holding.delete(project)
    else holding.set(project, own)
  }

  const take = (project: string, size = 1) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.suspend(() => {
        const refusal = refusalOf(project, size, now)
        refused.delete(project)
        if (refusal !== undefined) {
          refused.set(project, now)
          return Effect.fail(refusal)
        }
        move(project, size)
        let taken = true
        return Effect.succeed(() => {
          if (taken) move(project, -size)
          taken = false
        })
      }),
    )

  return {
    take,
    enter: (project, size) => Effect.asVoid(held(take(project, size), (giveBack) => Effect.sync(giveBack))),
  }
}
