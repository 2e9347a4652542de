import * as HttpApi from "@effect/platform/HttpApi"
import * as OpenApi from "@effect/platform/OpenApi"
import { AdminGroup } from "./AdminApi.ts"
import { ArtifactsGroup, KeyArtifactsGroup } from "./ArtifactsApi.ts"
import { BytesGroup, KeyBytesGroup, SignedGroup } from "./BytesApi.ts"
import { ClaimsGroup } from "./ClaimsApi.ts"
import { EventsGroup } from "./EventsApi.ts"
import { HealthGroup } from "./PublicApi.ts"

type Json = Record<string, any>

/**
 * The document as it is true on the wire: parameters a path does not have go, and the router's own decoding error is
 * shown as the envelope it becomes.
 */
const asServed = (spec: Json): Json => {
  for (const [path, methods] of Object.entries<Json>(spec["paths"]))
    for (const operation of Object.values<Json>(methods)) {
      operation["parameters"] = (operation["parameters"] as Array<Json>)
        .filter((parameter) => parameter["in"] !== "path" || path.includes(`{${parameter["name"]}}`))
        .map((parameter) => (parameter["in"] === "path" ? { ...parameter, required: true } : parameter))
    }
  const schemas: Json = spec["components"]["schemas"]
  if (schemas["Error400"] !== undefined) schemas["HttpApiDecodeError"] = schemas["Error400"]
  delete schemas["Issue"]
  delete schemas["PropertyKey"]
  return spec
}

/** What the platform's router serves. */
export class RoutedApi extends HttpApi.make("artifacts-api")
  .add(ArtifactsGroup)
  .add(KeyArtifactsGroup)
  .add(EventsGroup)
  .add(ClaimsGroup)
  .add(AdminGroup)
  .add(HealthGroup) {}

/** Everything the node answers over HTTP: the calls that carry bytes, which `BytesHttp.ts` serves, come on top. */
export class Api extends RoutedApi.add(BytesGroup)
  .add(KeyBytesGroup)
  .add(SignedGroup)
  .annotateContext(
    OpenApi.annotations({
      title: "Artifact plane",
      version: "1",
      description: "Durable artifacts with lineage that cannot be forged, quotas and source events.",
      transform: asServed,
    }),
  ) {}
