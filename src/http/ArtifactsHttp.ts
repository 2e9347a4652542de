import type * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Builder from "@effect/platform/HttpApiBuilder"
import type * as HttpApiError from "@effect/platform/HttpApiError"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Clock, DateTime, Effect } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { deleteArtifact } from "../artifacts/Delete.ts"
import { RoutedApi } from "./Api.ts"
import { type ArtifactsGroup, SignedUrlBody } from "./ArtifactsApi.ts"
import { inTurn, reading, readingPage } from "../turns/Turns.ts"
import { encodeArtifact, timestamp } from "./ArtifactJson.ts"
import { permittedCaller, projectCaller } from "./Auth.ts"
import { jsonBody } from "./JsonBody.ts"
import { translated } from "./Refusals.ts"
import { signUrl } from "./SignedUrls.ts"

type Handlers = HttpApiBuilder.Handlers.FromGroup<HttpApiError.HttpApiDecodeError, never, typeof ArtifactsGroup>

const quota = (project: string | undefined) =>
  Effect.gen(function* () {
    const caller = yield* permittedCaller(project, "mobius.project.view")
    const { pendingCount, usage } = yield* inTurn(caller.project, reading, (yield* ProjectStore).get(caller.project))
    return {
      used_bytes: usage.usedBytes,
      limit_bytes: usage.limitBytes,
      artifact_count: usage.artifactCount,
      pending_count: pendingCount,
      generated_at: timestamp(DateTime.unsafeMake(yield* Clock.currentTimeMillis)),
    }
  }).pipe(translated)

/** One set of handlers for both ways to name the project. */
const handle = (handlers: Handlers) =>
  handlers
    .handle("list", ({ path, urlParams }) =>
      Effect.gen(function* () {
        const caller = yield* projectCaller(path.project)
        const listing = (yield* MetadataStore).list(caller, {
          runId: urlParams.run_id,
          stepId: urlParams.step_id,
          jobId: urlParams.job_id,
          mime: urlParams.mime,
          namePrefix: urlParams.name_prefix,
          state: urlParams.state ?? "ready",
          cursor: urlParams.cursor,
          limit: urlParams.limit ?? 20,
        })
        const page = yield* inTurn(caller.project, readingPage, listing)
        return {
          items: page.items.map(encodeArtifact),
          has_more: page.nextCursor !== undefined,
          ...(page.nextCursor === undefined ? {} : { next_cursor: page.nextCursor }),
        }
      }).pipe(translated),
    )
    .handle("quota", ({ path }) => quota(path.project))
    .handle("storageQuota", ({ path }) => quota(path.project))
    .handle("find", ({ path, urlParams }) =>
      Effect.gen(function* () {
        const caller = yield* projectCaller(path.project)
        const includeDeleted = urlParams.include === "deleted"
        const finding = (yield* MetadataStore).find(caller, path.id, { includeDeleted })
        return encodeArtifact(yield* inTurn(caller.project, reading, finding))
      }).pipe(translated),
    )
    .handleRaw("signedUrl", ({ path, request, urlParams }) =>
      Effect.gen(function* () {
        const caller = yield* projectCaller(path.project)
        const body = yield* jsonBody(request, SignedUrlBody)
        return HttpServerResponse.unsafeJson(yield* signUrl(caller, path.id, urlParams.ttl_seconds ?? body.ttl_seconds))
      }).pipe(translated),
    )
    .handleRaw("remove", ({ path }) =>
      Effect.gen(function* () {
        const caller = yield* projectCaller(path.project)
        yield* deleteArtifact(caller, path.id)
        return HttpServerResponse.empty({ status: 204 })
      }).pipe(translated),
    )

export const ArtifactsHttp = Builder.group(RoutedApi, "artifacts", (handlers) => handle(handlers))
export const KeyArtifactsHttp = Builder.group(RoutedApi, "keyArtifacts", (handlers) => handle(handlers))
