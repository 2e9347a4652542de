import { open } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Layer, Schema } from "effect"
import { tryLock } from "fs-native-extensions"
import { makeOwn } from "../../src/config/dataDir.ts"
import { checkDataDir, closeDataDir } from "./DataDir.ts"

/** The folder belongs to another process, or cannot be used at all. One clear sentence. */
export class DataDirInUse extends Schema.TaggedError<DataDirInUse>()("DataDirInUse", { message: Schema.String }) {}

/**
 * Holds `dataDir` for this process: an exclusive lock of the operating system, which drops it when the process dies,
 * however it dies. The folder is made when it is not there, refused when others could have changed what is in it, and
 * closed to everybody else.
 */
export const layer = (options: { readonly dataDir: string }) =>
  Layer.scopedDiscard(
    Effect.acquireRelease(
      Effect.try(() => makeOwn(options.dataDir)).pipe(
        Effect.zipRight(checkDataDir(options.dataDir, "own")),
        Effect.zipRight(closeDataDir(options.dataDir)),
        Effect.zipRight(Effect.tryPromise(() => open(join(options.dataDir, "lock"), "a+", 0o600))),
        Effect.catchTag(
          "UnknownException",
          () =>
            new DataDirInUse({ message: `DATA_DIR "${options.dataDir}" cannot be written: check its permissions.` }),
        ),
        Effect.tap((file) =>
          tryLock(file.fd)
            ? Effect.void
            : Effect.zipRight(
                Effect.promise(() => file.close()),
                new DataDirInUse({
                  message: `Another process is using DATA_DIR "${options.dataDir}": stop it, or set another DATA_DIR.`,
                }),
              ),
        ),
      ),
      (file) => Effect.promise(() => file.close()),
    ),
  )
