import { join } from "node:path"
import * as HttpServer from "@effect/platform/HttpServer"
import { Cause, Context, Effect, Exit, Layer } from "effect"
import { misspeltKeys, Settings, type SettingsShape } from "./Config.ts"
import { buildOf } from "./Version.ts"

/** The release of the database's schema, e.g. `0001_schema`. */
export class SchemaRelease extends Context.Tag("src/Lifecycle/SchemaRelease")<SchemaRelease, string>() {}

const storeOf = ({ dataDir, s3 }: SettingsShape) =>
  s3 === undefined ? `files in ${join(dataDir, "blobs")}` : `bucket ${s3.bucket}`

/** Which parts the node is made of. */
const stackOf = (settings: SettingsShape) =>
  settings.production === undefined
    ? `embedded: a database of its own in ${join(settings.dataDir, "postgres")}, ${storeOf(settings)}`
    : `production: Postgres, Redis, ${storeOf(settings)}`

/** One line when the node serves: what runs, where, and on what. */
export const announce = Layer.effectDiscard(
  Effect.gen(function* () {
    const settings = yield* Settings
    const schema = yield* SchemaRelease
    const address = HttpServer.formatAddress((yield* HttpServer.HttpServer).address)
    yield* Effect.logInfo("Serving.").pipe(
      Effect.annotateLogs({ ...buildOf(settings), address, stack: stackOf(settings), schema }),
    )
  }),
)

/** A warning for each key of the environment that looks like a misspelt one, and one line at the end of a stop. */
export const layer = Layer.scopedDiscard(
  Effect.gen(function* () {
    yield* Effect.forEach(yield* misspeltKeys, (line) => Effect.logWarning(line), { discard: true })
    const { version } = buildOf(yield* Settings)
    yield* Effect.addFinalizer((exit) =>
      // A start that failed says so in its own words.
      Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)
        ? Effect.annotateLogs(Effect.logInfo("Stopped."), { version })
        : Effect.void,
    )
  }),
)
