import { it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Redacted } from "effect"
import { describe, expect } from "vitest"
import { describeConfigError, keys, layer, Settings } from "../../src/Config.ts"
import { misspelt } from "../../src/config/misspelt.ts"

const read = (environment: Record<string, string>) =>
  Settings.pipe(
    Effect.provide(layer),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
    Effect.mapError(describeConfigError),
    Effect.either,
  )

const refusal = (environment: Record<string, string>) =>
  Effect.map(read(environment), (settings) => Either.getOrThrow(Either.flip(settings)))

const databases = { DATABASE_URL: "postgres://u:p@localhost/db", REDIS_URL: "redis://localhost" }
const adminKey = (digit: string) => `mbx_${digit.repeat(64)}`

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
        drainDelaySeconds: 0,
        rateLimitPerKey: undefined,
        bootstrapApiKeys: [],
      })
    }),
  )

  it.effect("an empty value is an unset one", () =>
    Effect.gen(function* () {
      const [set, unset] = yield* Effect.all([read({ PORT: "", S3_BUCKET: "", VERIFY_READS: "" }), read({})])
      expect(set).toEqual(unset)
    }),
  )

  const refusals: ReadonlyArray<readonly [Record<string, string>, string]> = [
    [{ PORT: "80a" }, "PORT must be an integer from 0 to 65535"],
    [{ RUNNER_PORT: "0" }, "RUNNER_PORT must be an integer from 1 to 65535"],
    [{ ORPHAN_AGE_SECONDS: "31d" }, "ORPHAN_AGE_SECONDS must be an integer from 1 to 2592000"],
    [{ S3_BUCKET: "b", S3_PART_BYTES: "1" }, "S3_PART_BYTES must be an integer from 5242880 to 5368709120"],
    [
      { S3_BUCKET: "b", MAX_ARTIFACT_BYTES: "99999999999999" },
      "S3_PART_BYTES is too small: 10,000 parts must hold MAX_ARTIFACT_BYTES",
    ],
    ...["200", "0/1", "1/0", "1/2/3", "-1/5", "1.5/2", "many"].map(
      (text) =>
        [
          { RATE_LIMIT_PER_KEY: text },
          "RATE_LIMIT_PER_KEY must be requests a second and the burst, both from 1 to 999999, such as 200/400",
        ] as const,
    ),
    [{ VERIFY_READS: "yes" }, "VERIFY_READS must be true or false"],
    [{ LOG_LEVEL: "warn" }, "LOG_LEVEL must be one of debug, info, warning, error"],
    [
      { DATABASE_URL: databases.DATABASE_URL },
      "REDIS_URL is missing: DATABASE_URL and REDIS_URL go together (both for a production node, neither for an embedded one)",
    ],
    [
      { REDIS_URL: databases.REDIS_URL },
      "DATABASE_URL is missing: DATABASE_URL and REDIS_URL go together (both for a production node, neither for an embedded one)",
    ],
    [
      { ...databases, URL_SIGNING_SECRET: "s".repeat(16), DATABASE_URL: "mysql://x" },
      "DATABASE_URL must be a URL of postgres: or postgresql:",
    ],
    [databases, "URL_SIGNING_SECRET is missing: a production node with the file store signs its own URLs"],
    [
      { BOOTSTRAP_API_KEY: "short" },
      "BOOTSTRAP_API_KEY must be one key, or two separated by a comma, each mbx_ followed by at least 32 letters and digits (64 random hex digits)",
    ],
    [
      { BOOTSTRAP_API_KEY: ["1", "2", "3"].map(adminKey).join(",") },
      "BOOTSTRAP_API_KEY must be one key, or two separated by a comma, each mbx_ followed by at least 32 letters and digits (64 random hex digits)",
    ],
    [
      { URL_SIGNING_SECRET: "a,b" },
      "URL_SIGNING_SECRET must be one secret, or two separated by a comma, of at least 16 characters each",
    ],
    [
      { LEASE_INTROSPECTION_URL: "https://x" },
      "LEASE_INTROSPECTION_TOKEN is missing: LEASE_INTROSPECTION_URL and LEASE_INTROSPECTION_TOKEN go together",
    ],
    [
      { LEASE_INTROSPECTION_URL: "http://x", LEASE_INTROSPECTION_TOKEN: "t" },
      "LEASE_INTROSPECTION_URL must be https, or http on loopback",
    ],
    [{ S3_BUCKET: "b", S3_ENDPOINT: "localhost:9000" }, "S3_ENDPOINT must be a URL of http: or https:"],
    [
      { RUNNER_HOST: "10.0.0.1" },
      "RUNNER_HOST needs DATABASE_URL and REDIS_URL: an embedded node is a cluster of one process",
    ],
  ]
  for (const [environment, sentence] of refusals)
    it.effect(`${Object.keys(environment).join("+")}: ${sentence}`, () =>
      Effect.gen(function* () {
        expect(yield* refusal(environment)).toBe(sentence)
      }),
    )

  it.effect("all that is wrong is told at once, a line each", () =>
    Effect.gen(function* () {
      const wrong = {
        PORT: "80a",
        VERIFY_READS: "yes",
        DATABASE_URL: databases.DATABASE_URL,
        BOOTSTRAP_API_KEY: "short",
        S3_ENDPOINT: "localhost:9000",
        LEASE_INTROSPECTION_URL: "https://x",
        LOG_LEVEL: "loud",
      }
      const lines = (yield* refusal(wrong)).split("\n")
      const named = lines.map((line) => line.split(" ", 1)[0])
      expect(named.toSorted()).toEqual(
        [...Object.keys(wrong), "REDIS_URL", "LEASE_INTROSPECTION_TOKEN"]
          .filter((key) => key !== "DATABASE_URL" && key !== "LEASE_INTROSPECTION_URL")
          .toSorted(),
      )
    }),
  )

  it.effect("the admin key may be two while rotating", () =>
    Effect.gen(function* () {
      const { bootstrapApiKeys } = Either.getOrThrow(
        yield* read({ BOOTSTRAP_API_KEY: `${adminKey("1")}, ${adminKey("2")}` }),
      )
      expect(bootstrapApiKeys.map(Redacted.value)).toEqual([adminKey("1"), adminKey("2")])
    }),
  )

  it.effect("a refusal never repeats a secret", () =>
    Effect.gen(function* () {
      const refused = yield* refusal({
        BOOTSTRAP_API_KEY: "hunter2-hunter2",
        URL_SIGNING_SECRET: "hunter3",
        DATABASE_URL: "hunter4",
        REDIS_URL: "hunter5",
      })
      expect(refused).not.toContain("hunter")
      expect(refused.split("\n")).toHaveLength(4)
    }),
  )
})

describe("keys of the environment that nobody reads", () => {
  it.effect("are told when they look like one that is read", () =>
    Effect.gen(function* () {
      const known = yield* keys
      const cases = {
        PROT: "PORT",
        port: "PORT",
        DATABASE_URI: "DATABASE_URL",
        REDIS_ULR: "REDIS_URL",
        S3BUCKET: "S3_BUCKET",
        MAX_OPEN_UPLOAD: "MAX_OPEN_UPLOADS",
        UPLOAD_IDLE_SECS: "UPLOAD_IDLE_SECONDS",
        BOOTSTRAP_APIKEY: "BOOTSTRAP_API_KEY",
        ORPHAN_AGE_SECOND: "ORPHAN_AGE_SECONDS",
      }
      for (const [given, meant] of Object.entries(cases)) expect(misspelt([given], known)).toEqual([{ given, meant }])
    }),
  )

  it.effect("and no other: not the system's, Kubernetes' or a library's, nor any that is read", () =>
    Effect.gen(function* () {
      const known = yield* keys
      const others = [
        "HOME HOSTNAME PATH PWD USER SHELL TERM LANG EDITOR TMPDIR TZ DISPLAY",
        "AWS_REGION AWS_ACCESS_KEY_ID AWS_ENDPOINT_URL NODE_ENV NODE_OPTIONS NODE_EXTRA_CA_CERTS",
        "OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_PROTOCOL npm_package_version",
        "S3_PORT S3_SERVICE_HOST S3_SERVICE_PORT REDIS_PORT REDIS_SERVICE_HOST POSTGRES_PORT",
        "ARTIFACT_PLANE_PORT KUBERNETES_PORT KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT",
      ].flatMap((line) => line.split(" "))
      expect(misspelt([...others, ...known], known)).toEqual([])
    }),
  )
})
