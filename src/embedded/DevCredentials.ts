import { randomBytes } from "node:crypto"
import { mkdir, open, readFile, rename } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { traced } from "../telemetry/Spans.ts"

/**
 * What an embedded node made for its developer at the first start, kept in `DATA_DIR/dev-credentials.json` (0600):
 * the admin key and the signing secret, then the demo project's keys and claim.
 */
export const DevCredentials = Schema.Struct({
  admin_key: Schema.String,
  url_signing_secret: Schema.String,
  project: Schema.String,
  worker_key: Schema.optional(Schema.String),
  reader_key: Schema.optional(Schema.String),
  job_id: Schema.String,
  attempt: Schema.Int,
  lease_token: Schema.optional(Schema.String),
})
export type DevCredentials = typeof DevCredentials.Type

/** The file cannot be read or written, or is not what this program wrote. */
export class DevCredentialsUnusable extends Schema.TaggedError<DevCredentialsUnusable>()("DevCredentialsUnusable", {
  message: Schema.String,
}) {}

export const fileIn = (dataDir: string) => join(dataDir, "dev-credentials.json")

const secret = () => randomBytes(32).toString("hex")

const unusable = (dataDir: string, what: string) =>
  new DevCredentialsUnusable({
    message: `DATA_DIR "${dataDir}" ${what}: check its permissions, or remove dev-credentials.json to have it made anew.`,
  })

/** Replaces the file as a whole, synced, so that a crash leaves the old one or the new one. */
export const save = traced("DevCredentials.save")(function* (dataDir: string, credentials: DevCredentials) {
  yield* Effect.tryPromise({
    try: async () => {
      await mkdir(dataDir, { recursive: true })
      const draft = `${fileIn(dataDir)}.new`
      const handle = await open(draft, "w", 0o600)
      try {
        await handle.writeFile(`${JSON.stringify(credentials, null, 2)}\n`)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(draft, fileIn(dataDir))
    },
    catch: () => unusable(dataDir, "cannot be written"),
  })
})

/** Reads the file, or makes it at the first start. */
export const loadOrMake = traced("DevCredentials.loadOrMake")(function* (dataDir: string) {
  const text = yield* Effect.tryPromise({
    try: () =>
      readFile(fileIn(dataDir), "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return undefined
        throw error
      }),
    catch: () => unusable(dataDir, "cannot be read"),
  })
  if (text !== undefined)
    return yield* Schema.decode(Schema.parseJson(DevCredentials))(text).pipe(
      Effect.mapError(() => unusable(dataDir, "holds a damaged dev-credentials.json")),
    )
  const made: DevCredentials = {
    admin_key: `mbx_${secret()}`,
    url_signing_secret: secret(),
    project: "demo",
    job_id: "job-1",
    attempt: 0,
  }
  yield* save(dataDir, made)
  return made
})
