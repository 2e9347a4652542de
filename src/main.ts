import { NodeRuntime } from "@effect/platform-node"
import { Layer } from "effect"
import * as Node from "../layers/stacks/Node.ts"
import * as Settings from "./Config.ts"
import { reportFailure } from "./Failure.ts"

NodeRuntime.runMain(reportFailure(Layer.launch(Layer.provide(Node.layer, Settings.layer))), {
  disableErrorReporting: true,
})
