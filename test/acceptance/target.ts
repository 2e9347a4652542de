/** What is tested, read once: a running node, its admin key, and what the node was told that a caller cannot ask it. */

const env = process.env

const required = (name: string): string => {
  const value = env[name]
  if (value === undefined || value === "")
    throw new Error(`${name.replace("TARGET_", "")} must name the node under test`)
  return value
}

export const target = {
  /** Without a trailing slash. */
  baseUrl: required("TARGET_BASE_URL").replace(/\/$/, ""),
  /** The node's BOOTSTRAP_API_KEY. */
  adminKey: required("ADMIN_KEY"),
  /** Where the event stream is; unset: the node keeps its events in its database only. */
  redisUrl: env["REDIS_URL"] || undefined,
  eventStreamKey: env["EVENT_STREAM_KEY"] || "mobius:source-events",
  /** Who serves signed URLs: the node, or an S3 service. */
  store: env["STORE"] === "s3" ? ("s3" as const) : ("files" as const),
  /** False for an S3 stand-in that checks neither signature nor expiry of presigned URLs. */
  signaturesChecked: env["SIGNATURES_CHECKED"] !== "false",
  maxArtifactBytes: Number(env["MAX_ARTIFACT_BYTES"] || 5 * 1024 ** 3),
  maxOpenUploads: Number(env["MAX_OPEN_UPLOADS"] || 256),
  uploadIdleSeconds: Number(env["UPLOAD_IDLE_SECONDS"] || 60),
}
