import {
  Config,
  ConfigError,
  ConfigProvider,
  Context,
  Effect,
  Either,
  Layer,
  LogLevel,
  Option,
  type Redacted,
} from "effect"
import { defaultDataDir } from "./config/dataDir.ts"
import { misspelt } from "./config/misspelt.ts"
import * as Parse from "./config/parse.ts"

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
  /** This pod's address in the cluster; `undefined`: a cluster of this one process. */
  readonly runner: { readonly host: string; readonly port: number } | undefined
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
  /** The admin key; two while it is rotated. Empty: none was configured. */
  readonly bootstrapApiKeys: ReadonlyArray<Redacted.Redacted>
  /** The first signs; all verify. Empty: none was configured. */
  readonly urlSigningSecrets: ReadonlyArray<Redacted.Redacted>
  readonly maxArtifactBytes: number
  readonly defaultQuotaBytes: number
  readonly maxOpenUploads: number
  readonly uploadIdleSeconds: number
  readonly maxOpenDownloads: number
  readonly maxOpenStreams: number
  /** How long a client may take nothing of an answer, whatever it is. */
  readonly downloadIdleSeconds: number
  /** How long a stopping node goes on serving, not ready any more, before its listener closes. */
  readonly drainDelaySeconds: number
  /** How long transfers may go on after that. */
  readonly drainSeconds: number
  /** How often each API key may be used; absent: without a limit. */
  readonly rateLimitPerKey: { readonly perSecond: number; readonly burst: number } | undefined
  readonly signedUrlTtlSeconds: number
  readonly signedUrlMaxTtlSeconds: number
  readonly allowLeaseFreeUploads: boolean
  readonly verifyReads: boolean
  readonly leaseIntrospection: { readonly url: URL; readonly token: Redacted.Redacted } | undefined
  readonly eventStreamKey: string
  readonly eventStreamMaxLength: number
  readonly eventRetentionSeconds: number
  /** How long an ended claim stays known in full. */
  readonly claimRetentionSeconds: number
  readonly sweepSeconds: number
  readonly abandonedAfterSeconds: number
  readonly orphanSweepSeconds: number
  readonly orphanAgeSeconds: number
  /** Between the two looks that must find an object unknown. */
  readonly orphanConfirmSeconds: number
  /** Of the admin calls, which PORT then does not serve; 0: whatever the system chooses. Absent: PORT serves them. */
  readonly adminPort: number | undefined
  /** Of `/metrics`; 0: whatever the system chooses. */
  readonly metricsPort: number
  /** Where spans go by OTLP/HTTP; absent: nowhere. */
  readonly otlpEndpoint: string | undefined
  readonly logLevel: LogLevel.LogLevel
  /** The commit that the image was built from; absent: not known. */
  readonly buildCommit: string | undefined
}

export class Settings extends Context.Tag("src/Config/Settings")<Settings, SettingsShape>() {}

const MiB = 1024 * 1024
const GiB = 1024 * MiB

const refuse = (key: string, message: string) => ConfigError.InvalidData([key], message)

/** A key's value; `undefined` when it is unset or empty. Every key is read by this one, whose errors name it once. */
const optional = <A>(key: string, parse: Parse.Parse<A>): Config.Config<A | undefined> =>
  Config.option(Config.nonEmptyString(key)).pipe(
    Config.mapOrFail(
      Option.match({
        onNone: () => Either.right(undefined),
        onSome: (text) => Either.mapLeft(parse(text), (message) => refuse(key, message)),
      }),
    ),
  )

const required = <A>(key: string, parse: Parse.Parse<A>, fallback: A): Config.Config<A> =>
  Config.map(optional(key, parse), (value) => value ?? fallback)

const text = (key: string, fallback: string) => required(key, Parse.anyText, fallback)
const flag = (key: string) => required(key, Parse.flag, false)
const httpUrl = (key: string) => optional(key, Parse.url("http:", "https:"))
const integer = (key: string, fallback: number, min: number, max = Number.MAX_SAFE_INTEGER) =>
  required(key, Parse.integer(min, max), fallback)

/** Two keys that are set both or neither. */
const pair = <A, B>(
  first: readonly [string, Config.Config<A | undefined>],
  second: readonly [string, Config.Config<B | undefined>],
  why = "",
) =>
  Config.all([first[1], second[1]]).pipe(
    Config.mapOrFail(([a, b]) => {
      if (a !== undefined && b !== undefined) return Either.right([a, b] as const)
      if (a === undefined && b === undefined) return Either.right(undefined)
      const missing = a === undefined ? first[0] : second[0]
      return Either.left(refuse(missing, `is missing: ${first[0]} and ${second[0]} go together${why}`))
    }),
  )

/** Read by both commands: serving and migrating. */
export const databaseUrl = optional("DATABASE_URL", Parse.connectionUrl("postgres:", "postgresql:"))

const production = pair(
  ["DATABASE_URL", databaseUrl],
  ["REDIS_URL", optional("REDIS_URL", Parse.connectionUrl("redis:", "rediss:"))],
  " (both for a production node, neither for an embedded one)",
).pipe(Config.map((urls) => urls && { databaseUrl: urls[0], redisUrl: urls[1] }))

const runner = Config.all({
  production,
  host: optional("RUNNER_HOST", Parse.anyText),
  port: integer("RUNNER_PORT", 7946, 1, 65_535),
}).pipe(
  Config.mapOrFail(({ host, port, production }) => {
    if (host === undefined) return Either.right(undefined)
    if (production === undefined)
      return Either.left(
        refuse("RUNNER_HOST", "needs DATABASE_URL and REDIS_URL: an embedded node is a cluster of one process"),
      )
    return Either.right({ host, port })
  }),
)

const maxArtifactBytes = integer("MAX_ARTIFACT_BYTES", 5 * GiB, 1)

const bucket = optional("S3_BUCKET", Parse.anyText)

const s3 = Config.all({
  maxArtifactBytes,
  bucket,
  endpoint: httpUrl("S3_ENDPOINT"),
  region: text("S3_REGION", "us-east-1"),
  forcePathStyle: flag("S3_FORCE_PATH_STYLE"),
  publicEndpoint: httpUrl("S3_PUBLIC_ENDPOINT"),
  partBytes: integer("S3_PART_BYTES", 5 * MiB, 5 * MiB, 5 * GiB),
  partsInFlight: integer("S3_PARTS_IN_FLIGHT", 4, 1, 1000),
}).pipe(
  Config.mapOrFail(({ bucket, maxArtifactBytes, ...options }) => {
    if (bucket === undefined) return Either.right(undefined)
    // An S3 multipart upload has at most 10,000 parts (Amazon S3 User Guide, "Multipart upload limits").
    return maxArtifactBytes > options.partBytes * 10_000
      ? Either.left(refuse("S3_PART_BYTES", "is too small: 10,000 parts must hold MAX_ARTIFACT_BYTES"))
      : Either.right({ bucket, ...options })
  }),
)

const adminKeys = Parse.secrets(
  /^mbx_[A-Za-z0-9]{32,}$/,
  "must be one key, or two separated by a comma, each mbx_ followed by at least 32 letters and digits (64 random hex digits)",
)
const signingSecrets = Parse.secrets(
  /^.{16,}$/s,
  "must be one secret, or two separated by a comma, of at least 16 characters each",
)

const urlSigningSecrets = Config.all({
  production,
  bucket,
  secrets: required("URL_SIGNING_SECRET", signingSecrets, []),
}).pipe(
  Config.mapOrFail(({ bucket, production, secrets }) =>
    production !== undefined && bucket === undefined && secrets.length === 0
      ? Either.left(
          refuse("URL_SIGNING_SECRET", "is missing: a production node with the file store signs its own URLs"),
        )
      : Either.right(secrets),
  ),
)

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"])

const leaseIntrospection = pair(
  ["LEASE_INTROSPECTION_URL", httpUrl("LEASE_INTROSPECTION_URL")],
  ["LEASE_INTROSPECTION_TOKEN", optional("LEASE_INTROSPECTION_TOKEN", Parse.secret)],
).pipe(
  Config.mapOrFail((both) => {
    if (both === undefined) return Either.right(undefined)
    const url = new URL(both[0])
    return url.protocol === "https:" || loopback.has(url.hostname)
      ? Either.right({ url, token: both[1] })
      : Either.left(refuse("LEASE_INTROSPECTION_URL", "must be https, or http on loopback"))
  }),
)

const settings = Config.all({
  host: text("HOST", "127.0.0.1"),
  port: integer("PORT", 8080, 0, 65_535),
  publicUrl: httpUrl("PUBLIC_URL"),
  dataDir: text("DATA_DIR", defaultDataDir),
  production,
  databasePoolSize: integer("DATABASE_POOL_SIZE", 10, 2, 200),
  runner,
  s3,
  bootstrapApiKeys: required("BOOTSTRAP_API_KEY", adminKeys, []),
  urlSigningSecrets,
  maxArtifactBytes,
  defaultQuotaBytes: integer("DEFAULT_QUOTA_BYTES", 10 * GiB, 0),
  maxOpenUploads: integer("MAX_OPEN_UPLOADS", 256, 1),
  uploadIdleSeconds: integer("UPLOAD_IDLE_SECONDS", 60, 1, 86_400),
  maxOpenDownloads: integer("MAX_OPEN_DOWNLOADS", 512, 1),
  maxOpenStreams: integer("MAX_OPEN_STREAMS", 1000, 1),
  downloadIdleSeconds: integer("DOWNLOAD_IDLE_SECONDS", 60, 1, 86_400),
  drainDelaySeconds: optional("DRAIN_DELAY_SECONDS", Parse.integer(0, 3600)),
  drainSeconds: integer("DRAIN_SECONDS", 25, 0, 86_400),
  rateLimitPerKey: optional("RATE_LIMIT_PER_KEY", Parse.rateLimit),
  signedUrlTtlSeconds: integer("SIGNED_URL_TTL_SECONDS", 900, 1),
  signedUrlMaxTtlSeconds: integer("SIGNED_URL_MAX_TTL_SECONDS", 86_400, 1, 604_800),
  allowLeaseFreeUploads: flag("ALLOW_LEASE_FREE_UPLOADS"),
  verifyReads: flag("VERIFY_READS"),
  leaseIntrospection,
  eventStreamKey: text("EVENT_STREAM_KEY", "mobius:source-events"),
  eventStreamMaxLength: integer("EVENT_STREAM_MAXLEN", 1_000_000, 1000),
  eventRetentionSeconds: integer("EVENT_RETENTION", 7 * 86_400, 60),
  // Longer than the 24 h for which a token still fetches an earlier answer.
  claimRetentionSeconds: integer("CLAIM_RETENTION", 7 * 86_400, 2 * 86_400),
  sweepSeconds: integer("SWEEP_SECONDS", 10, 1, 60),
  abandonedAfterSeconds: integer("ABANDONED_AFTER_SECONDS", 45, 1, 3600),
  orphanSweepSeconds: integer("ORPHAN_SWEEP_SECONDS", 900, 1, 3600),
  orphanAgeSeconds: integer("ORPHAN_AGE_SECONDS", 1800, 1, 30 * 86_400),
  orphanConfirmSeconds: integer("ORPHAN_CONFIRM_SECONDS", 86_400, 1, 30 * 86_400),
  adminPort: optional("ADMIN_PORT", Parse.integer(0, 65_535)),
  metricsPort: integer("METRICS_PORT", 9464, 0, 65_535),
  otlpEndpoint: httpUrl("OTEL_EXPORTER_OTLP_ENDPOINT"),
  logLevel: required("LOG_LEVEL", Parse.logLevel, LogLevel.Info),
  buildCommit: optional("BUILD_COMMIT", Parse.anyText),
}).pipe(
  Config.map((read): SettingsShape => ({
    ...read,
    publicUrl: read.publicUrl ?? `http://${read.host}:${read.port}`,
    drainDelaySeconds: read.drainDelaySeconds ?? (read.runner === undefined ? 0 : 5),
    signedUrlTtlSeconds: Math.min(read.signedUrlTtlSeconds, read.signedUrlMaxTtlSeconds),
  })),
)

/** The settings of this process; fails with every key that is wrong. */
export const layer = Layer.effect(Settings, settings)

/** The names of all keys that `layer` reads. */
export const keys = Effect.suspend(() => {
  const read = new Set<string>()
  const provider = ConfigProvider.mapInputPath(ConfigProvider.fromMap(new Map()), (key) => {
    read.add(key)
    return key
  })
  return Effect.map(provider.load(settings), () => [...read].toSorted())
})

/** A line for each key of the environment that nobody reads and that looks like one of ours. */
export const misspeltKeys = Effect.map(keys, (known) =>
  misspelt(Object.keys(process.env), known).map(
    ({ given, meant }) => `The environment has ${given}, which is no setting and has no effect: is ${meant} meant?`,
  ),
)

/** A readable line for each wrong or missing key; secrets are never part of one. */
export const describeConfigError = (error: ConfigError.ConfigError): string => [...new Set(linesOf(error))].join("\n")

const linesOf = (error: ConfigError.ConfigError): ReadonlyArray<string> => {
  switch (error._op) {
    case "And":
    case "Or":
      return [...linesOf(error.left), ...linesOf(error.right)]
    case "MissingData":
    case "InvalidData":
    case "SourceUnavailable":
    case "Unsupported":
      return [`${error.path.join("_")} ${error.message}`]
  }
}
