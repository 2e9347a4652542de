import {
  MessageStorage,
  RunnerHealth,
  Runners,
  RunnerStorage,
  Sharding,
  ShardingConfig,
  Singleton,
} from "@effect/cluster"
import { type Duration, Effect, Layer } from "effect"
import type { SettingsShape } from "../Config.ts"
import { relay } from "./EventRelay.ts"
import { abandonedUploads, orphanedBlobs, prune, reconcile, removals } from "./Sweeps.ts"

/** Rounds for ever, a pause apart. A failed round, even a defect, is logged and the next one comes all the same. */
const every = <A, E, R>(name: string, pause: Duration.DurationInput, round: Effect.Effect<A, E, R>) =>
  Singleton.make(
    name,
    round.pipe(
      Effect.catchAllCause((cause) => Effect.logError(`${name} failed and will be tried again.`, cause)),
      Effect.zipRight(Effect.sleep(pause)),
      Effect.forever,
    ),
  )

/** A cluster of this one process. Two processes so composed run each duty twice, which every duty is made to bear. */
const singleProcess = Sharding.layer.pipe(
  Layer.provide(Runners.layerNoop),
  Layer.provideMerge(MessageStorage.layerNoop),
  Layer.provide([RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
  Layer.provide(ShardingConfig.layer()),
)

/** The background duties of a node, as actors. */
export const layer = (
  settings: Pick<
    SettingsShape,
    "sweepSeconds" | "abandonedAfterSeconds" | "orphanSweepSeconds" | "orphanAgeSeconds" | "eventRetentionSeconds"
  >,
) =>
  Layer.mergeAll(
    Singleton.make("EventRelay", relay),
    every("Removals", "1 second", removals()),
    every("AbandonedUploads", `${settings.sweepSeconds} seconds`, abandonedUploads(settings.abandonedAfterSeconds)),
    every("OrphanedBlobs", `${settings.orphanSweepSeconds} seconds`, orphanedBlobs(settings.orphanAgeSeconds)),
    every("Reconciliation", "60 seconds", reconcile()),
    every("Pruning", "10 minutes", prune(settings.eventRetentionSeconds)),
  ).pipe(Layer.provide(singleProcess))
