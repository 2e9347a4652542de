import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import type { ProjectCaller } from "../../src/domain/Principal.ts"

type Sql = SqlClient.SqlClient

/** `visible` of src/domain/Visibility.ts as SQL, for pages: true for the rows (of artifacts or events, named `alias`) whose metadata the caller may see. */
export const metadataVisible = (sql: Sql, caller: ProjectCaller, alias: string): Statement.Fragment => {
  const of = (column: string) => sql.literal(`${alias}.${column}`)
  return sql`(${of("project")} = ${caller.project}::text and artifact_visible(
    ${of("visibility")}, ${of("owner_kind")}, ${of("owner_id")}, ${of("created_by_kind")}, ${of("created_by_id")},
    ${caller.principal.kind}::text, ${caller.principal.id}::text,
    ${caller.may("mobius.project.view")}::boolean, ${caller.may("mobius.project.edit")}::boolean))`
}
