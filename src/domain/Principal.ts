import { Schema } from "effect"
import { CredentialId, ExternalId, ProjectHandle } from "./Ids.ts"

/** Who calls or owns: `{kind, id}`; the id is opaque and unique within its kind. */
export class Principal extends Schema.Class<Principal>("Principal")({
  kind: Schema.Literal("user", "agent", "service"),
  id: ExternalId,
}) {}

export const samePrincipal = (a: Principal, b: Principal): boolean => a.kind === b.kind && a.id === b.id

/** What a project key may be granted. Administration is not among them: it belongs to the admin key alone. */
export const Permission = Schema.Literal(
  "mobius.project.view",
  "mobius.project.edit",
  "mobius.work.execute",
  "mobius.claims.manage",
)
export type Permission = typeof Permission.Type

/** An authenticated caller holding a project's API key. */
export class ProjectCaller extends Schema.TaggedClass<ProjectCaller>()("ProjectCaller", {
  keyId: CredentialId,
  project: ProjectHandle,
  principal: Principal,
  permissions: Schema.Array(Permission),
}) {
  may(permission: Permission): boolean {
    return this.permissions.includes(permission)
  }
}

/** The holder of the bootstrap key: administers projects, keys and claims, and nothing else. */
export class AdminCaller extends Schema.TaggedClass<AdminCaller>()("AdminCaller", {}) {}

export type Caller = ProjectCaller | AdminCaller
