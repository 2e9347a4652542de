import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import type { EventArtifact } from "../../src/domain/SourceEvent.ts"
import { type ProjectCaller, samePrincipal } from "../../src/domain/Principal.ts"

type Sql = SqlClient.SqlClient

/** What decides who may see an artifact. */
type Judged = Pick<EventArtifact, "project" | "visibility" | "owner" | "createdBy">

/** Content: shared ones with the right to view, own and self-created ones always. */
export const readable = (caller: ProjectCaller, artifact: Judged): boolean =>
  artifact.project === caller.project &&
  ((artifact.visibility === "shared" && caller.may("mobius.project.view")) ||
    samePrincipal(artifact.owner, caller.principal) ||
    samePrincipal(artifact.createdBy, caller.principal))

/** Metadata: what is readable, and everything of the project with the right to edit. */
export const visible = (caller: ProjectCaller, artifact: Judged): boolean =>
  readable(caller, artifact) || (artifact.project === caller.project && caller.may("mobius.project.edit"))

/** `visible` as SQL, for pages: true for the rows (of artifacts or events, named `alias`) whose metadata the caller may see. */
export const metadataVisible = (sql: Sql, caller: ProjectCaller, alias: string): Statement.Fragment => {
  const of = (column: string) => sql.literal(`${alias}.${column}`)
  return sql`(${of("project")} = ${caller.project}::text and artifact_visible(
    ${of("visibility")}, ${of("owner_kind")}, ${of("owner_id")}, ${of("created_by_kind")}, ${of("created_by_id")},
    ${caller.principal.kind}::text, ${caller.principal.id}::text,
    ${caller.may("mobius.project.view")}::boolean, ${caller.may("mobius.project.edit")}::boolean))`
}
