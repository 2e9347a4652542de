import { Config, ConfigError, Context, Effect, Either, Layer, LogLevel, Option, Redacted } from "effect"

/**
 * Everything the environment decides, read once at start. Absent optional keys are `undefined`; sizes are bytes, times
 * are seconds. The README's table repeats these defaults, and a test compares the two.
 */
export interface SettingsShape {
  readonly host: string
  readonly port: number
  readonly publicUrl: string
  readonly dataDir: string
  /** Both set: a production node. Absent: embedded parts under `dataDir`. */
  readonly production: { readonly databaseUrl: Redacted.Redacted; readonly redisUrl: Redacted.Redacted } | undefined
  readonly databasePoolSize: number
  /**
   * This pod's address in the cluster; absent: a cluster of this one process. `kubernetes`: whose pods the runners are,
   * so that the Kubernetes API says which of them live.
   */
  readonly runner:
    | {
        readonly host: string
        readonly port: number
        readonly kubernetes: { readonly namespace: string; readonly labelSelector: string } | undefined
      }
    | undefined
  readonly s3:
    | {
        readonly bucket: string
        readonly endpoint: string | undefined
        readonly region: string
        readonly forcePathStyle: boolean
        readonly publicEndpoint: string | undefined
        readonly partBytes: number
        readonly partsInFlight: number
      }
    | undefined
  readonly bootstrapApiKey: Redacted.Redacted | undefined
  /** The first signs; all verify. Empty: none was configured. */
  readonly urlSigningSecrets: ReadonlyArray<Redacted.Redacted>
  readonly maxArtifactBytes: number
  readonly defaultQuotaBytes: number
  readonly maxOpenUploads: number
  readonly uploadIdleSeconds: number
  /** How long a stopping node goes on serving, not ready any more, before its listener closes. */
  readonly drainDelaySeconds: number
  /** How long transfers may go on after that. */
  readonly drainSeconds: number
  readonly signedUrlTtlSeconds: number
  readonly signedUrlMaxTtlSeconds: number
  readonly allowLeaseFreeUploads: boolean
  readonly verifyReads: boolean
  readonly leaseIntrospection: { readonly url: URL; readonly token: Redacted.Redacted } | undefined
  readonly eventStreamKey: string
  readonly eventStreamMaxLength: number
  readonly eventRetentionSeconds: number
  readonly sweepSeconds: number
  readonly abandonedAfterSeconds: number
  readonly orphanSweepSeconds: number
  readonly orphanAgeSeconds: number
  /** Between the two looks that must find an object unknown. */
  readonly orphanConfirmSeconds: number
  /** Of `/metrics`; 0: whatever the system chooses. */
  readonly metricsPort: number
  /** Where spans go by OTLP/HTTP; absent: nowhere. */
  readonly otlpEndpoint: string | undefined
  readonly logLevel: LogLevel.LogLevel
}

export class Settings extends Context.Tag("src/Config/Settings")<Settings, SettingsShape>() {}

const MiB = 1024 * 1024
const GiB = 1024 * MiB

const refuse = (key: string, message: string) => ConfigError.InvalidData([key], message)

/** An integer within bounds, with a sentence that names them. */
const integer = (key: string, fallback: number, min: number, max = Number.MAX_SAFE_INTEGER) =>
  Config.string(key).pipe(
    Config.mapOrFail((text) => {
      const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
      return Number.isSafeInteger(value) && value >= min && value <= max
        ? Either.right(value)
        : Either.left(refuse(key, `must be an integer from ${min} to ${max}`))
    }),
    Config.withDefault(fallback),
  )

const flag = (key: string) =>
  Config.string(key).pipe(
    Config.mapOrFail((text) =>
      text === "true" || text === "false"
        ? Either.right(text === "true")
        : Either.left(refuse(key, "must be true or false")),
    ),
    Config.withDefault(false),
  )

const optionalString = (key: string) =>
  Config.option(Config.nonEmptyString(key)).pipe(Config.map(Option.getOrUndefined))

const optionalSecret = (key: string) =>
  Config.option(Config.redacted(Config.nonEmptyString(key))).pipe(Config.map(Option.getOrUndefined))

const optionalUrl = (key: string, protocols: ReadonlyArray<string>) =>
  optionalString(key).pipe(
    Config.mapOrFail((text) => {
      if (text === undefined) return Either.right(undefined)
      if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol))
        return Either.left(refuse(key, `must be a URL of ${protocols.join(" or ")}`))
      return Either.right(text.replace(/\/+$/, ""))
    }),
  )

const connectionUrl = (key: string, protocols: ReadonlyArray<string>) =>
  optionalSecret(key).pipe(
    Config.mapOrFail((secret) => {
      if (secret === undefined) return Either.right(undefined)
      const text = Redacted.value(secret)
      return URL.canParse(text) && protocols.includes(new URL(text).protocol)
        ? Either.right(secret)
        : Either.left(refuse(key, `must be a URL of ${protocols.join(" or ")}`))
    }),
  )

const levels = { debug: LogLevel.Debug, info: LogLevel.Info, warning: LogLevel.Warning, error: LogLevel.Error }

const logLevel = Config.string("LOG_LEVEL").pipe(
  Config.mapOrFail((text) => {
    const level = Object.entries(levels).find(([name]) => name === text)?.[1]
    return level === undefined
      ? Either.left(refuse("LOG_LEVEL", `must be one of ${Object.keys(levels).join(", ")}`))
      : Either.right(level)
  }),
  Config.withDefault(levels.info),
)

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"])

/** Keys read by both commands: serving and migrating. */
export const databaseUrl = connectionUrl("DATABASE_URL", ["postgres:", "postgresql:"])

const make = Effect.gen(function* () {
  const host = yield* Config.nonEmptyString("HOST").pipe(Config.withDefault("127.0.0.1"))
  const port = yield* integer("PORT", 8080, 0, 65_535)
  const database = yield* databaseUrl
  const redis = yield* connectionUrl("REDIS_URL", ["redis:", "rediss:"])
  if ((database === undefined) !== (redis === undefined))
    return yield* Effect.fail(
      refuse(
        database === undefined ? "DATABASE_URL" : "REDIS_URL",
        "is missing: DATABASE_URL and REDIS_URL go together (both for a production node, neither for an embedded one)",
      ),
    )
  const production = database && redis ? { databaseUrl: database, redisUrl: redis } : undefined

  const runnerHost = yield* optionalString("RUNNER_HOST")
  const runnerPort = yield* integer("RUNNER_PORT", 7946, 1, 65_535)
  const runnerNamespace = yield* optionalString("RUNNER_NAMESPACE")
  const runnerSelector = yield* optionalString("RUNNER_SELECTOR")
  if (runnerHost !== undefined && production === undefined)
    return yield* Effect.fail(
      refuse("RUNNER_HOST", "needs DATABASE_URL and REDIS_URL: an embedded node is a cluster of one process"),
    )
  if ((runnerNamespace === undefined) !== (runnerSelector === undefined))
    return yield* Effect.fail(
      refuse(
        runnerNamespace === undefined ? "RUNNER_NAMESPACE" : "RUNNER_SELECTOR",
        "is missing: RUNNER_NAMESPACE and RUNNER_SELECTOR go together",
      ),
    )
  const kubernetes =
    runnerNamespace !== undefined && runnerSelector !== undefined
      ? { namespace: runnerNamespace, labelSelector: runnerSelector }
      : undefined

  const bucket = yield* optionalString("S3_BUCKET")
  const s3 =
    bucket === undefined
      ? undefined
      : {
          bucket,
          endpoint: yield* optionalUrl("S3_ENDPOINT", ["http:", "https:"]),
          region: yield* Config.nonEmptyString("S3_REGION").pipe(Config.withDefault("us-east-1")),
          forcePathStyle: yield* flag("S3_FORCE_PATH_STYLE"),
          publicEndpoint: yield* optionalUrl("S3_PUBLIC_ENDPOINT", ["http:", "https:"]),
          partBytes: yield* integer("S3_PART_BYTES", 5 * MiB, 5 * MiB, 5 * GiB),
          partsInFlight: yield* integer("S3_PARTS_IN_FLIGHT", 4, 1, 1000),
        }

  const maxArtifactBytes = yield* integer("MAX_ARTIFACT_BYTES", 5 * GiB, 1)
  // An S3 multipart upload has at most 10,000 parts (Amazon S3 User Guide, "Multipart upload limits").
  if (s3 !== undefined && maxArtifactBytes > s3.partBytes * 10_000)
    return yield* Effect.fail(refuse("S3_PART_BYTES", "is too small: 10,000 parts must hold MAX_ARTIFACT_BYTES"))

  const bootstrapApiKey = yield* optionalSecret("BOOTSTRAP_API_KEY")
  if (bootstrapApiKey !== undefined && !/^mbx_[A-Za-z0-9]{32,}$/.test(Redacted.value(bootstrapApiKey)))
    return yield* Effect.fail(
      refuse("BOOTSTRAP_API_KEY", "must be mbx_ followed by at least 32 letters and digits (64 random hex digits)"),
    )

  const signing = yield* optionalSecret("URL_SIGNING_SECRET")
  const urlSigningSecrets = signing
    ? Redacted.value(signing)
        .split(",")
        .map((secret) => Redacted.make(secret.trim()))
    : []
  if (urlSigningSecrets.length > 2 || urlSigningSecrets.some((secret) => Redacted.value(secret).length < 16))
    return yield* Effect.fail(
      refuse("URL_SIGNING_SECRET", "must be one secret, or two separated by a comma, of at least 16 characters each"),
    )
  if (production && !s3 && urlSigningSecrets.length === 0)
    return yield* Effect.fail(
      ConfigError.MissingData(
        ["URL_SIGNING_SECRET"],
        "is missing: a production node with the file store signs its own URLs",
      ),
    )

  const introspectionUrl = yield* optionalUrl("LEASE_INTROSPECTION_URL", ["http:", "https:"])
  const introspectionToken = yield* optionalSecret("LEASE_INTROSPECTION_TOKEN")
  if ((introspectionUrl === undefined) !== (introspectionToken === undefined))
    return yield* Effect.fail(
      refuse(
        introspectionUrl === undefined ? "LEASE_INTROSPECTION_URL" : "LEASE_INTROSPECTION_TOKEN",
        "is missing: LEASE_INTROSPECTION_URL and LEASE_INTROSPECTION_TOKEN go together",
      ),
    )
  const introspection = introspectionUrl === undefined ? undefined : new URL(introspectionUrl)
  if (introspection && introspection.protocol !== "https:" && !loopback.has(introspection.hostname))
    return yield* Effect.fail(refuse("LEASE_INTROSPECTION_URL", "must be https, or http on loopback"))

  const ttl = yield* integer("SIGNED_URL_TTL_SECONDS", 900, 1)
  const maxTtl = yield* integer("SIGNED_URL_MAX_TTL_SECONDS", 86_400, 1, 604_800)

  return Settings.of({
    host,
    port,
    publicUrl: (yield* optionalUrl("PUBLIC_URL", ["http:", "https:"])) ?? `http://${host}:${port}`,
    dataDir: yield* Config.nonEmptyString("DATA_DIR").pipe(Config.withDefault(".data")),
    production,
    databasePoolSize: yield* integer("DATABASE_POOL_SIZE", 10, 2, 200),
    runner: runnerHost === undefined ? undefined : { host: runnerHost, port: runnerPort, kubernetes },
    s3,
    bootstrapApiKey,
    urlSigningSecrets,
    maxArtifactBytes,
    defaultQuotaBytes: yield* integer("DEFAULT_QUOTA_BYTES", 10 * GiB, 0),
    maxOpenUploads: yield* integer("MAX_OPEN_UPLOADS", 256, 1),
    uploadIdleSeconds: yield* integer("UPLOAD_IDLE_SECONDS", 60, 1, 86_400),
    drainDelaySeconds: yield* integer("DRAIN_DELAY_SECONDS", runnerHost === undefined ? 0 : 5, 0, 3600),
    drainSeconds: yield* integer("DRAIN_SECONDS", 25, 0, 86_400),
    signedUrlTtlSeconds: Math.min(ttl, maxTtl),
    signedUrlMaxTtlSeconds: maxTtl,
    allowLeaseFreeUploads: yield* flag("ALLOW_LEASE_FREE_UPLOADS"),
    verifyReads: yield* flag("VERIFY_READS"),
    leaseIntrospection:
      introspection && introspectionToken ? { url: introspection, token: introspectionToken } : undefined,
    eventStreamKey: yield* Config.nonEmptyString("EVENT_STREAM_KEY").pipe(Config.withDefault("mobius:source-events")),
    eventStreamMaxLength: yield* integer("EVENT_STREAM_MAXLEN", 1_000_000, 1000),
    eventRetentionSeconds: yield* integer("EVENT_RETENTION", 7 * 86_400, 60),
    sweepSeconds: yield* integer("SWEEP_SECONDS", 10, 1, 60),
    abandonedAfterSeconds: yield* integer("ABANDONED_AFTER_SECONDS", 45, 1, 3600),
    orphanSweepSeconds: yield* integer("ORPHAN_SWEEP_SECONDS", 900, 1, 3600),
    orphanAgeSeconds: yield* integer("ORPHAN_AGE_SECONDS", 1800, 1, 30 * 86_400),
    orphanConfirmSeconds: yield* integer("ORPHAN_CONFIRM_SECONDS", 86_400, 1, 30 * 86_400),
    metricsPort: yield* integer("METRICS_PORT", 9464, 0, 65_535),
    otlpEndpoint: yield* optionalUrl("OTEL_EXPORTER_OTLP_ENDPOINT", ["http:", "https:"]),
    logLevel: yield* logLevel,
  })
})

/** The settings of this process; fails with the first key that is wrong. */
export const layer = Layer.effect(Settings, make)

/** One readable line for a wrong or missing key; secrets are never part of it. */
export const describeConfigError = (error: ConfigError.ConfigError): string => {
  switch (error._op) {
    case "And":
    case "Or":
      return describeConfigError(error.left)
    case "MissingData":
    case "InvalidData":
    case "SourceUnavailable":
    case "Unsupported":
      return `${error.path.join("_")} ${error.message}`
  }
}
