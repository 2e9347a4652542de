import * as HttpBody from "@effect/platform/HttpBody"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Effect, FiberRef, Layer } from "effect"
import type { SettingsShape } from "../Config.ts"
import { scrubber } from "./Scrub.ts"

/** Loaded only when there is somewhere to export to. */
const exporter = (settings: SettingsShape, endpoint: string) =>
  Layer.unwrapEffect(
    Effect.promise(async () => {
      const [Tracer, { OtlpSerialization }] = await Promise.all([
        import("@effect/opentelemetry/OtlpTracer"),
        import("@effect/opentelemetry/OtlpSerialization"),
      ])
      const scrub = scrubber(settings)
      const json = (data: unknown) => HttpBody.text(scrub(JSON.stringify(data)), "application/json")
      return Tracer.layer({
        url: `${endpoint}/v1/traces`,
        resource: { serviceName: "artifact-plane" },
        exportInterval: "2 seconds",
      }).pipe(
        Layer.provide(Layer.succeed(OtlpSerialization, { traces: json, metrics: json, logs: json })),
        Layer.provide(NodeHttpClient.layerWithoutAgent),
        Layer.provide(NodeHttpClient.makeAgentLayer({ keepAlive: true })),
      )
    }),
  )

/** Makes no span at all, which costs less than making spans that nobody keeps. */
export const off = Layer.locally(FiberRef.currentTracerEnabled, false)

/** Exports the spans of a layer's work by OTLP/HTTP when an endpoint is set, inside of `off`. */
export const exported = (settings: SettingsShape) => {
  const endpoint = settings.otlpEndpoint
  return <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> =>
    endpoint === undefined
      ? layer
      : Layer.provide(Layer.locally(layer, FiberRef.currentTracerEnabled, true), exporter(settings, endpoint))
}
