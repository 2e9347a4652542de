import type { Redacted } from "effect"
import type { Artifact } from "../domain/Artifact.ts"
import type { ProjectCaller } from "../domain/Principal.ts"
import type { Receive } from "./Receive.ts"

/** A publish request after the edge: who, by which right, and how to get at the body. */
export interface PublishRequest {
  readonly caller: ProjectCaller
  readonly leaseToken: Redacted.Redacted | undefined
  readonly idempotencyKey: string | undefined
  /** Of the whole multipart body, in bytes; absent for chunked bodies. */
  readonly contentLength: number | undefined
  readonly receive: Receive
}

export interface Published {
  /** 201: made now; 200: made by an earlier request under the same idempotency key. */
  readonly status: 200 | 201
  readonly artifact: Artifact
}
