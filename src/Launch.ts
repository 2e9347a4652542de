import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Layer } from "effect"
import * as Node from "../layers/stacks/Node.ts"
import * as Settings from "./Config.ts"
import { reportFailure } from "./Failure.ts"

const node = Layer.provide(Node.layer, Settings.layer)

NodeRuntime.runMain(reportFailure(Layer.launch(node)), { disableErrorReporting: true })
