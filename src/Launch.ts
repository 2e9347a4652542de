import { defaultTeardown } from "@effect/platform/Runtime"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Layer } from "effect"
import * as Node from "../layers/stacks/Node.ts"
import * as Settings from "./Config.ts"
import { reportFailure } from "./Failure.ts"
import { stopOptimizer } from "./Optimizer.ts"

const node = Layer.provide(Node.layer, Settings.layer)

/** How long the process stays for V8 to end the compilations that have begun, in milliseconds: see Optimizer.ts. */
const compilationsMillis = 200

NodeRuntime.runMain(reportFailure(Layer.launch(node)), {
  disableErrorReporting: true,
  teardown: (exit, end) => {
    stopOptimizer()
    defaultTeardown(exit, (code) => void setTimeout(end, compilationsMillis, code))
  },
})
