import { existsSync } from "node:fs"
import { Effect, Layer, Schema } from "effect"
import { closeToOthers, objectionTo, type Use } from "../../src/config/dataDir.ts"

/** DATA_DIR is one that others may change. One clear sentence. */
export class DataDirRefused extends Schema.TaggedError<DataDirRefused>()("DataDirRefused", {
  message: Schema.String,
}) {}

/** Refuses a folder that others may change. `UnknownException`: it cannot be looked at. */
export const checkDataDir = (dataDir: string, use: Use) =>
  Effect.flatMap(
    Effect.try(() => objectionTo(dataDir, use)),
    (message) => (message === undefined ? Effect.void : new DataDirRefused({ message })),
  )

/**
 * Closes a folder of this user's to everybody else; a line says so when it was open. It does not fail, because the folder
 * may be on a mount whose modes are fixed: then the line says that it stays open.
 */
export const closeDataDir = (dataDir: string) =>
  Effect.try(() => closeToOthers(dataDir)).pipe(
    Effect.flatMap((before) =>
      before === undefined
        ? Effect.void
        : Effect.logWarning(
            `DATA_DIR "${dataDir}" was open to other users of this machine (mode ${before}); it is closed to them now (0700).`,
          ),
    ),
    Effect.catchAll(() =>
      Effect.logWarning(`DATA_DIR "${dataDir}" is open to other users of this machine and cannot be closed to them.`),
    ),
  )

/**
 * DATA_DIR as the file store of a production node: refused when everybody may write it. Owner and group are not looked
 * at, because a volume often belongs to root and admits pods by its group (`fsGroup`). When it is not there, the store
 * makes it.
 */
export const store = (options: { readonly dataDir: string }) =>
  Layer.effectDiscard(
    Effect.suspend(() => (existsSync(options.dataDir) ? checkDataDir(options.dataDir, "store") : Effect.void)).pipe(
      Effect.catchTag(
        "UnknownException",
        () => new DataDirRefused({ message: `DATA_DIR "${options.dataDir}" cannot be read: check its permissions.` }),
      ),
    ),
  )
