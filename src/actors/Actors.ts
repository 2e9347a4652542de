import * as Singleton from "@effect/cluster/Singleton"
import { Layer } from "effect"
import { relay } from "./EventRelay.ts"
import * as Project from "./Project.ts"
import * as Removals from "./Removals.ts"
import * as Ticks from "./Ticks.ts"

/**
 * The background duties of a node, as actors of a cluster, be it of this process alone. They decide and coordinate;
 * what must always hold is held by the database, so that with all of them down only sweeps, reconciliation and the
 * relay wait.
 */
export const layer = (settings: Parameters<typeof Ticks.layer>[0]) =>
  Layer.mergeAll(
    Singleton.make("EventRelay", relay),
    Project.layer({ abandonedAfterSeconds: settings.abandonedAfterSeconds }),
    Ticks.layer(settings),
    Removals.layer,
  )
