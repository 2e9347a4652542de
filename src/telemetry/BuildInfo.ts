import { Effect, Layer, MetricKey } from "effect"
import { Settings } from "../Config.ts"
import { buildOf } from "../Version.ts"
import { labelled } from "./labelled.ts"

const info = MetricKey.gauge("artifact_build_info", { description: "What runs here, by its labels; always 1." })

export const layer = Layer.effectDiscard(
  Effect.map(Settings, (settings) => {
    const { node, version } = buildOf(settings)
    labelled(info, { version, node }).unsafeUpdate(1, [])
  }),
)
