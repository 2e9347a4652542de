import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { Settings } from "../Config.ts"
import { buildOf } from "../Version.ts"
import { RoutedApi } from "./Api.ts"
import { unavailable } from "./ApiErrors.ts"
import { Readiness } from "./Readiness.ts"

export const HealthHttp = HttpApiBuilder.group(RoutedApi, "health", (handlers) =>
  handlers
    .handle("healthz", () => Effect.succeed({ status: "ok" as const }))
    .handle("readyz", () =>
      Effect.gen(function* () {
        const { degraded, draining, ready } = yield* (yield* Readiness).state
        if (draining) return yield* Effect.fail(unavailable("The node is going away."))
        if (!ready) return yield* Effect.fail(unavailable(`Not reached yet: ${degraded.join(", ")}.`))
        return { status: degraded.length === 0 ? "ready" : "degraded", degraded }
      }),
    )
    .handle("version", () => Effect.map(Settings, buildOf)),
)
