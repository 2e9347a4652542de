import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import {
  Error400,
  Error401,
  Error403,
  Error404,
  Error409,
  Error410,
  Error412,
  Error413,
  Error416,
  Error429,
  Error503,
} from "./ApiErrors.ts"
import { ArtifactJson } from "./ArtifactJson.ts"
import { Artifact, Project, summary } from "./ArtifactsApi.ts"
import { Authentication } from "./Auth.ts"

/** The parts of the multipart body; read as a stream by the node, so this schema documents and does not decode. */
const PublishBody = HttpApiSchema.MultipartStream(
  Schema.Struct({
    file: Schema.String.annotations({
      description: "The bytes; exactly one such part.",
      jsonSchema: { type: "string", format: "binary" },
    }),
    name: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(256)),
    mime: Schema.optional(Schema.String),
    size_bytes: Schema.optional(Schema.String.annotations({ description: "Must equal the streamed count." })),
    sha256: Schema.optional(Schema.String.annotations({ description: "Must equal the streamed digest." })),
    metadata: Schema.optional(Schema.String.annotations({ description: "A JSON object of at most 64 KiB." })),
  }),
)

const bytes = Schema.Uint8ArrayFromSelf.pipe(
  HttpApiSchema.withEncoding({ kind: "Uint8Array", contentType: "application/octet-stream" }),
)

/** The same calls twice: with the project in the path, and with the project of the key. */
const group = <const Name extends string>(name: Name, root: "/v1/projects/:project" | "/v1") =>
  HttpApiGroup.make(name)
    .add(
      HttpApiEndpoint.post("publish", `${root}/artifacts`)
        .setPath(Project)
        .setPayload(PublishBody)
        .setHeaders(
          Schema.Struct({
            "x-mobius-lease-token": Schema.optional(Schema.String),
            "idempotency-key": Schema.optional(Schema.String),
          }),
        )
        .addSuccess(ArtifactJson, { status: 201 })
        .addSuccess(ArtifactJson.annotations({ identifier: "ReplayedArtifact" }), { status: 200 })
        .addError(Error409)
        .addError(Error413)
        .annotateContext(
          summary(
            "Publish a file",
            "The lease token says where the file comes from. A retry with the same Idempotency-Key gets 200 and the artifact once it is made, and takes over an upload that is still on its way; the earlier sender then gets 409 idempotency_superseded.",
          ),
        ),
    )
    .add(
      HttpApiEndpoint.get("content", `${root}/artifacts/:id/content`)
        .setPath(Artifact)
        .addSuccess(bytes)
        .addError(Error410)
        .addError(Error412)
        .addError(Error416)
        .annotateContext(summary("The bytes", "Honours Range, If-Range, If-Match and If-None-Match.")),
    )
    .add(
      HttpApiEndpoint.head("contentHead", `${root}/artifacts/:id/content`)
        .setPath(Artifact)
        .addSuccess(HttpApiSchema.Empty(200))
        .addError(Error410)
        .addError(Error412)
        .addError(Error416)
        .annotateContext(summary("The headers of the bytes")),
    )
    .addError(Error400)
    .addError(Error403)
    .addError(Error404)
    .addError(Error401)
    .addError(Error429)
    .addError(Error503)
    .middleware(Authentication)

export const BytesGroup = group("bytes", "/v1/projects/:project")
export const KeyBytesGroup = group("keyBytes", "/v1")

export const SignedGroup = HttpApiGroup.make("signed")
  .add(
    HttpApiEndpoint.get("content", "/v1/signed/:id/content")
      .setPath(Schema.Struct({ id: Schema.String }))
      .setUrlParams(
        Schema.Struct({ expires: Schema.optional(Schema.String), signature: Schema.optional(Schema.String) }),
      )
      .addSuccess(bytes)
      .addError(Error410)
      .addError(Error412)
      .addError(Error416)
      .annotateContext(summary("The bytes, by a URL that the node signed")),
  )
  .addError(Error403)
  .addError(Error404)
  .addError(Error503)
