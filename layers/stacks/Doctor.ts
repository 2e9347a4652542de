import { existsSync } from "node:fs"
import { join } from "node:path"
import { Effect, Layer, Schema } from "effect"
import type { SettingsShape } from "../../src/Config.ts"
import * as Production from "./Production.ts"

/** There is nothing to check. */
export class NoDatabase extends Schema.TaggedError<NoDatabase>()("NoDatabase", { message: Schema.String }) {}

/** Apart from the requests' pools of the nodes that serve meanwhile. */
const poolSize = 3

const embedded = (settings: SettingsShape) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      if (!existsSync(join(settings.dataDir, "postgres")))
        return yield* new NoDatabase({
          message:
            "There is no database to check: set DATABASE_URL and REDIS_URL, or DATA_DIR to the folder of an embedded node.",
        })
      const [Embedded, DataDirLock] = yield* Effect.promise(() =>
        Promise.all([import("./Embedded.ts"), import("../clients/DataDirLock.ts")]),
      )
      return Embedded.layer(settings).pipe(Layer.provide(DataDirLock.layer({ dataDir: settings.dataDir })))
    }),
  )

type Own = ReturnType<typeof Production.layer>
type Fault = Layer.Layer.Error<Own> | Layer.Layer.Error<ReturnType<typeof embedded>>

/**
 * The services of a node without its listeners and actors, for a check beside running nodes. Its statements may take as
 * long as they take. An embedded node must be stopped first: its folder belongs to one process.
 */
export const layer = (settings: SettingsShape): Layer.Layer<Layer.Layer.Success<Own>, Fault> =>
  settings.production
    ? Production.layer({ ...settings, databasePoolSize: poolSize }, settings.production, { patient: true })
    : embedded(settings)
