import { Clock, DateTime, Effect, Redacted } from "effect"
import { createHmac, timingSafeEqual } from "node:crypto"
import { BlobStore } from "../../services/BlobStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Settings } from "../Config.ts"
import { disposition } from "../domain/Preview.ts"
import type { ProjectCaller } from "../domain/Principal.ts"
import { apiError, unavailable } from "./ApiErrors.ts"
import { timestamp } from "./ArtifactJson.ts"
import { traced } from "../telemetry/Spans.ts"
import { inTurn, reading } from "../turns/Turns.ts"

const mac = (secret: Redacted.Redacted, id: string, expires: string): Buffer =>
  createHmac("sha256", Redacted.value(secret)).update(`GET\n${id}\n${expires}`).digest()

const refused = apiError(403, "permission_denied", "The URL is not one that this node signed, or its time is over.", {
  details: { permission: "a valid signature" },
})

/**
 * A URL for bytes the caller may read: the store's own when it has one, else signed by the node with its first
 * secret. `ttlSeconds` beyond the maximum is capped.
 */
export const signUrl = traced("SignedUrls.sign")(function* (
  caller: ProjectCaller,
  id: string,
  ttlSeconds: number | undefined,
) {
  const settings = yield* Settings
  const finding = (yield* MetadataStore).findContent(caller, id)
  const { artifact, blobKey } = yield* inTurn(caller.project, reading, finding)
  const ttl = Math.min(ttlSeconds ?? settings.signedUrlTtlSeconds, settings.signedUrlMaxTtlSeconds)
  const presigned = yield* (yield* BlobStore).signedUrl(blobKey, {
    ttlSeconds: ttl,
    mime: artifact.mime,
    disposition: disposition("attachment", artifact.name),
  })
  if (presigned !== undefined)
    return { url: presigned.url, method: "GET" as const, expires_at: timestamp(presigned.expiresAt) }
  const secret = settings.urlSigningSecrets[0]
  if (secret === undefined) return yield* Effect.fail(unavailable("This node has no secret to sign URLs with."))
  const expires = Math.floor((yield* Clock.currentTimeMillis) / 1000) + ttl
  const signature = mac(secret, artifact.id, String(expires)).toString("base64url")
  return {
    url: `${settings.publicUrl}/v1/signed/${artifact.id}/content?expires=${expires}&signature=${signature}`,
    method: "GET" as const,
    expires_at: timestamp(DateTime.unsafeMake(expires * 1000)),
  }
})

/** Passes when any of the secrets signed this id and time, and the time is not over. */
export const verifySignature = traced("SignedUrls.verify")(function* (id: string, expires = "", signature = "") {
  const { urlSigningSecrets } = yield* Settings
  // Decoding base64url passes over what is not of it: only the one form that was signed is taken.
  if (!/^\d{1,12}$/.test(expires) || !/^[A-Za-z0-9_-]{43}$/.test(signature)) return yield* Effect.fail(refused)
  const given = Buffer.from(signature, "base64url")
  const signed = urlSigningSecrets
    .map((secret) => mac(secret, id, expires))
    .some((expected) => given.length === expected.length && timingSafeEqual(given, expected))
  if (!signed || Number(expires) * 1000 <= (yield* Clock.currentTimeMillis)) return yield* Effect.fail(refused)
})
