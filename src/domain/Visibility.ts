import { type ProjectCaller, samePrincipal } from "./Principal.ts"
import type { EventArtifact } from "./SourceEvent.ts"

/** What decides who may see an artifact. */
type Judged = Pick<EventArtifact, "project" | "visibility" | "owner" | "createdBy">

/** Content: shared ones with the right to view, own and self-created ones always. */
export const readable = (caller: ProjectCaller, artifact: Judged): boolean =>
  artifact.project === caller.project &&
  ((artifact.visibility === "shared" && caller.may("mobius.project.view")) ||
    samePrincipal(artifact.owner, caller.principal) ||
    samePrincipal(artifact.createdBy, caller.principal))

/** Metadata and events: what is readable, and everything of the project with the right to edit. */
export const visible = (caller: ProjectCaller, artifact: Judged): boolean =>
  readable(caller, artifact) || (artifact.project === caller.project && caller.may("mobius.project.edit"))
