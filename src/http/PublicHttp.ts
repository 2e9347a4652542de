import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Api } from "./Api.ts"
import { unavailable } from "./ApiErrors.ts"
import { serveContent } from "./content/Content.ts"
import { Readiness } from "./Readiness.ts"
import { translated } from "./Refusals.ts"
import { verifySignature } from "./SignedUrls.ts"

export const SignedHttp = HttpApiBuilder.group(Api, "signed", (handlers) =>
  handlers.handleRaw("content", ({ path, request, urlParams }) =>
    Effect.gen(function* () {
      yield* verifySignature(path.id, urlParams.expires, urlParams.signature)
      return yield* serveContent(request, yield* (yield* MetadataStore).findSigned(path.id))
    }).pipe(translated),
  ),
)

export const HealthHttp = HttpApiBuilder.group(Api, "health", (handlers) =>
  handlers
    .handle("healthz", () => Effect.succeed({ status: "ok" as const }))
    .handle("readyz", () =>
      Effect.gen(function* () {
        const { degraded, draining, ready } = yield* (yield* Readiness).state
        if (draining) return yield* Effect.fail(unavailable("The node is going away."))
        if (!ready) return yield* Effect.fail(unavailable(`Not reached yet: ${degraded.join(", ")}.`))
        return { status: degraded.length === 0 ? "ready" : "degraded", degraded }
      }),
    ),
)
