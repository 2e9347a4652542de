import { Context, type Effect } from "effect"
import type { ProjectHandle } from "../src/domain/Ids.ts"
import type { Project, ProjectNotFound } from "../src/domain/Project.ts"
import type { Usage } from "../src/domain/Quota.ts"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** Everything the quota counters of one project are rebuilt from, read as of one instant. Bytes. */
export interface QuotaSnapshot {
  readonly usage: Usage
  /** Uploads on their way that are not fenced, with the bytes their rows hold. */
  readonly reservations: ReadonlyArray<{ readonly uploadId: string; readonly bytes: number }>
}

/** Projects and their books. Postgres is the truth of both; each method is one statement. */
export class ProjectStore extends Context.Tag("services/ProjectStore")<
  ProjectStore,
  {
    /** Creates the project or changes its limit (absent: keeps it, or the default for a new one). Idempotent. */
    readonly put: (
      handle: ProjectHandle,
      quotaBytes: number | undefined,
    ) => Effect.Effect<{ readonly project: Project; readonly usage: Usage }, DependencyUnavailable>
    readonly get: (
      handle: ProjectHandle,
    ) => Effect.Effect<
      { readonly project: Project; readonly usage: Usage; readonly pendingCount: number },
      ProjectNotFound | DependencyUnavailable
    >
    readonly quotaSnapshot: (
      handle: ProjectHandle,
    ) => Effect.Effect<QuotaSnapshot, ProjectNotFound | DependencyUnavailable>
  }
>() {}
