import "./WithoutOptimizer.ts"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Exit, Layer } from "effect"
import * as Stack from "../layers/stacks/Doctor.ts"
import * as Config from "./Config.ts"
import { doctor } from "./doctor/Doctor.ts"
import { parseTask, usage } from "./doctor/Options.ts"
import { reportFailure } from "./Failure.ts"
import * as Logs from "./telemetry/Logs.ts"

/** Everything but the report goes to stderr. */
const layer = Layer.unwrapEffect(
  Effect.map(Config.Settings, (settings) =>
    Layer.provide(
      Stack.layer(settings),
      Logs.layer(settings, (line) => void process.stderr.write(line)),
    ),
  ),
).pipe(Layer.provide(Config.layer))

const program = parseTask(process.argv.slice(2)).pipe(
  Effect.flatMap((task) =>
    task._tag === "Help" ? Effect.as(Console.log(usage), 0) : Effect.provide(doctor(task), layer),
  ),
  reportFailure,
  Effect.scoped,
)

NodeRuntime.runMain(program, {
  disableErrorReporting: true,
  // What could not be checked is neither clean nor a finding.
  teardown: (exit, end) => end(Exit.isSuccess(exit) ? (exit.value as number) : 2),
})
