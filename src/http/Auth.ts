import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { hash, timingSafeEqual } from "node:crypto"
import { Authenticator } from "../../services/Authenticator.ts"
import { type RateDecision, type RateLimit, RateLimiter } from "../../services/RateLimiter.ts"
import { Settings } from "../Config.ts"
import { AdminCaller, type Caller, type Permission, type ProjectCaller } from "../domain/Principal.ts"
import {
  apiError,
  type ApiError,
  Error401,
  Error429,
  Error503,
  notFound,
  permissionDenied,
  unauthorized,
} from "./ApiErrors.ts"
import { concerning } from "../telemetry/Subject.ts"
import { makeRefusedKeys } from "./RefusedKeys.ts"
import { translated } from "./Refusals.ts"
import { Schema } from "effect"

/** Who makes this request. */
export class CurrentCaller extends Context.Tag("src/http/CurrentCaller")<CurrentCaller, Caller>() {}

/** Admits a request by its bearer key and says whose it is. */
export class Authentication extends HttpApiMiddleware.Tag<Authentication>()("src/http/Authentication", {
  failure: Schema.Union(Error401, Error429, Error503),
  provides: CurrentCaller,
  security: { bearer: HttpApiSecurity.bearer },
}) {}

const sha256 = (text: string) => hash("sha256", text, "buffer")

/** Times of headers are whole seconds. */
const seconds = (millis: number) => String(Math.ceil(millis / 1000))

const rateLimitExceeded = (
  { burst, perSecond }: RateLimit,
  { remaining, resetMillis, retryAfterMillis }: RateDecision,
) =>
  apiError(
    429,
    "rate_limit_exceeded",
    `This API key may make ${perSecond} requests a second, with bursts of ${burst}: wait as Retry-After says and send the request again.`,
    {
      headers: {
        "retry-after": seconds(Math.max(1, retryAfterMillis)),
        "x-ratelimit-limit": String(burst),
        "x-ratelimit-remaining": String(remaining),
        "x-ratelimit-reset": seconds(resetMillis),
      },
    },
  )

/** Refuses a key that is used more often than it may, where a limit is configured. */
const makeRateLimit = Effect.map(
  Effect.serviceOption(RateLimiter),
  Option.match({
    onNone: () => (caller: ProjectCaller) => Effect.succeed(caller),
    onSome: (limiter) => (caller: ProjectCaller) =>
      Effect.flatMap(limiter.take(caller), (decision) =>
        decision.allowed ? Effect.succeed(caller) : Effect.fail(rateLimitExceeded(limiter.limit, decision)),
      ),
  }),
)

/** Says whose a request with this Authorization header is, or refuses it. */
export const makeAdmission = Effect.gen(function* () {
  const authenticator = yield* Authenticator
  const withinRate = yield* makeRateLimit
  const { bootstrapApiKeys } = yield* Settings
  const adminHashes = bootstrapApiKeys.map((adminKey) => sha256(Redacted.value(adminKey)))
  const heldBack = makeRefusedKeys()
  const refused = Effect.zipRight(heldBack, Effect.fail(unauthorized))
  return (authorization: string | undefined): Effect.Effect<Caller, ApiError> => {
    const key = /^Bearer +(\S{1,512}) *$/i.exec(authorization ?? "")?.[1]
    if (key === undefined) return refused
    const keyHash = sha256(key)
    if (adminHashes.some((adminHash) => timingSafeEqual(adminHash, keyHash))) return Effect.succeed(new AdminCaller())
    return authenticator.authenticate(Redacted.make(key)).pipe(
      Effect.tapErrorTag("Unauthorized", () => heldBack),
      translated,
      Effect.flatMap(withinRate),
    )
  }
})

export const AuthenticationLive = Layer.effect(
  Authentication,
  Effect.map(makeAdmission, (admit) => ({
    bearer: () =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) => admit(headers.authorization)).pipe(
        Effect.tap((caller) =>
          caller._tag === "ProjectCaller" ? concerning({ project: caller.project }) : Effect.void,
        ),
      ),
  })),
)

const adminElsewhere = apiError(
  403,
  "permission_denied",
  "The administrator's key administers; it opens nothing inside a project.",
  { details: { permission: "a project's API key" } },
)

/** The caller, who must hold a key of this project; `undefined`: whatever project the key is of. */
export const inProject = (caller: Caller, project: string | undefined): Effect.Effect<ProjectCaller, ApiError> => {
  if (caller._tag === "AdminCaller") return Effect.fail(adminElsewhere)
  return project === undefined || project === caller.project
    ? Effect.succeed(caller)
    : Effect.fail(notFound("There is no such project."))
}

/** `inProject` for the caller that the platform's middleware admitted. */
export const projectCaller = (project: string | undefined): Effect.Effect<ProjectCaller, ApiError, CurrentCaller> =>
  Effect.flatMap(CurrentCaller, (caller) => inProject(caller, project))

/** `projectCaller` with a permission on top. */
export const permittedCaller = (project: string | undefined, permission: Permission) =>
  Effect.filterOrFail(
    projectCaller(project),
    (caller) => caller.may(permission),
    () => permissionDenied(permission),
  )

/** Only the administrator passes. */
export const adminOnly: Effect.Effect<AdminCaller, ApiError, CurrentCaller> = Effect.flatMap(CurrentCaller, (caller) =>
  caller._tag === "AdminCaller" ? Effect.succeed(caller) : Effect.fail(permissionDenied("the administrator's key")),
)
