import { Effect } from "effect"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import { relayRound } from "../../src/actors/EventRelay.ts"
import * as Project from "../../src/actors/Project.ts"
import { acceptRestore } from "../../src/actors/Watermark.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import type { Tenant } from "./journal.ts"

/** One project's sweep and reconciliation, by whoever takes it over now; everything silent is dead. */
export const served = Effect.fnUntraced(function* ({ project }: Tenant, reconciling: boolean) {
  const handle = ProjectHandle.make(project)
  const epoch = (yield* (yield* ProjectDuties).take(handle)) ?? Number.NaN
  yield* Project.sweep(handle, epoch, 0)
  if (reconciling) yield* Project.reconcile(handle, epoch)
})

export const relayed = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle", times: 50 })

/** An operator's word after a doubt about the database. */
export const accepted = Effect.flatMap(
  Effect.flatMap(StoreGuard, (guard) => guard.hold),
  (hold) => (hold === undefined ? Effect.void : acceptRestore),
)
