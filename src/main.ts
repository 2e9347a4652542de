import { NodeRuntime } from "@effect/platform-node"
import { Layer } from "effect"
import * as Node from "../layers/stacks/Node.ts"
import * as Settings from "./Config.ts"
import { reportFailure } from "./Failure.ts"

Layer.launch(Node.layer.pipe(Layer.provide(Settings.layer))).pipe(
  reportFailure,
  NodeRuntime.runMain({ disableErrorReporting: true }),
)
