import { it } from "@effect/vitest"
import { ConfigProvider, Effect, Either } from "effect"
import { describe, expect } from "vitest"
import { describeConfigError, layer, Settings } from "../../src/Config.ts"

const read = (environment: Record<string, string>) =>
  Settings.pipe(
    Effect.provide(layer),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
    Effect.mapError(describeConfigError),
    Effect.either,
  )

const databases = { DATABASE_URL: "postgres://u:p@localhost/db", REDIS_URL: "redis://localhost" }

describe("settings", () => {
  it.effect("an empty environment is an embedded node with the documented defaults", () =>
    Effect.gen(function* () {
      const settings = Either.getOrThrow(yield* read({}))
      expect(settings.production).toBeUndefined()
      expect(settings).toMatchObject({
        host: "127.0.0.1",
        port: 8080,
        publicUrl: "http://127.0.0.1:8080",
        maxOpenUploads: 256,
      })
    }),
  )

  const refusals: ReadonlyArray<readonly [Record<string, string>, string]> = [
    [{ PORT: "80a" }, "PORT must be an integer from 0 to 65535"],
    [{ VERIFY_READS: "yes" }, "VERIFY_READS must be true or false"],
    [{ DATABASE_URL: databases.DATABASE_URL }, "REDIS_URL is missing"],
    [{ REDIS_URL: databases.REDIS_URL }, "DATABASE_URL is missing"],
    [{ ...databases, DATABASE_URL: "mysql://x" }, "DATABASE_URL must be a URL of postgres"],
    [databases, "URL_SIGNING_SECRET is missing"],
    [{ BOOTSTRAP_API_KEY: "short" }, "BOOTSTRAP_API_KEY must be"],
    [{ URL_SIGNING_SECRET: "a,b" }, "URL_SIGNING_SECRET must be"],
    [{ LEASE_INTROSPECTION_URL: "https://x" }, "LEASE_INTROSPECTION_TOKEN is missing"],
    [{ LEASE_INTROSPECTION_URL: "http://x", LEASE_INTROSPECTION_TOKEN: "t" }, "LEASE_INTROSPECTION_URL must be https"],
    [{ S3_BUCKET: "b", S3_ENDPOINT: "localhost:9000" }, "S3_ENDPOINT must be a URL"],
  ]
  for (const [environment, sentence] of refusals)
    it.effect(`${Object.keys(environment).join("+")}: ${sentence}`, () =>
      Effect.gen(function* () {
        const refused = yield* Effect.map(read(environment), Either.flip)
        expect(Either.getOrThrow(refused)).toContain(sentence)
      }),
    )

  it.effect("a refusal never repeats a secret", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.map(read({ BOOTSTRAP_API_KEY: "hunter2-hunter2" }), Either.flip)
      expect(Either.getOrThrow(refused)).not.toContain("hunter2")
    }),
  )
})
