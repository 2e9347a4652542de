import { Effect } from "effect"
import { sweepStore } from "../../src/actors/Orphans.ts"
import { removals } from "../../src/actors/Removals.ts"
import { checkWatermark } from "../../src/actors/Watermark.ts"
import type { Plane } from "./cases.ts"
import { accepted, relayed, served } from "./duties.ts"
import type { Tenant } from "./journal.ts"
import { judge } from "./judge.ts"
import type { Say } from "./start.ts"
import { goOn } from "./worker.ts"

/** How long the plane may take until everything agrees: an expired reservation takes 45 s. Milliseconds. */
const agreeingMillis = 75_000

/** Workers and duties go on until everything agrees, and then the listing of the store finds the rest. */
export const settle = (plane: Plane, say: Say) =>
  Effect.provide(
    Effect.gen(function* () {
      const { journal } = plane
      const tenants = journal.of("tenant")
      const sentences: Array<string> = []
      yield* accepted
      const duties = (own: ReadonlyArray<Tenant>) =>
        Effect.forEach(own, (tenant) => served(tenant, true), { concurrency: 16, discard: true })
      // A sweep finds the uploads of half of the workers before these come back.
      yield* duties(tenants.filter((_, index) => index % 2 === 0))
      const answers = yield* Effect.forEach(tenants, (tenant) => goOn(journal, tenant), { concurrency: 16 })
      sentences.push(...answers.flat())
      const agreed = (complete: boolean, until: number) =>
        Effect.gen(function* () {
          let said = ""
          for (let asked: ReadonlyArray<Tenant> = tenants; ;) {
            yield* relayed
            yield* removals()
            const { sentences: doubts, doubted } = yield* judge(journal, asked, complete)
            const late = Date.now() > until
            const line = doubts.length === 0 ? "all agree" : `${doubts.length} doubts, e.g. ${doubts[0]}`
            if (line !== said) say(line)
            said = line
            if (asked === tenants && (doubts.length === 0 || late)) return doubts
            // Those in doubt are asked again by themselves; all of them once these agree.
            asked = doubted.length === 0 || late ? tenants : doubted
            if (doubts.length === 0) continue
            yield* Effect.sleep("1 second")
            yield* duties(doubted)
          }
        })
      sentences.push(...(yield* agreed(false, Date.now() + agreeingMillis)))
      const listing = sweepStore({ ageSeconds: 0, confirmSeconds: 0, budget: { objects: 1_000_000, seconds: 60 } })
      // Only now may it be seen that the store belongs to a newer database.
      yield* Effect.zipRight(checkWatermark(), accepted)
      // The first goes on where a dead process stopped, the second suspects what is unknown, the third removes it.
      yield* Effect.repeatN(listing, 2)
      sentences.push(...(yield* agreed(true, Date.now() + 5000)))
      return [...new Set(sentences)]
    }),
    plane.base,
  )
