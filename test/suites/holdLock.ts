import { Effect, Layer } from "effect"
import * as DataDirLock from "../../layers/clients/DataDirLock.ts"

/** A process that holds the folder named by its argument, says so, and stays. */
await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      yield* Layer.build(DataDirLock.layer({ dataDir: process.argv[2] ?? "" }))
      console.log("held")
      yield* Effect.sleep("60 seconds")
    }),
  ),
)
