import { Schema } from "effect"
import { Bytes, ProjectHandle } from "./Ids.ts"

/** A tenant. `quotaBytes` absent: the node's default limit applies, as it stands at each commit. */
export class Project extends Schema.Class<Project>("Project")({
  handle: ProjectHandle,
  quotaBytes: Schema.optional(Bytes),
  createdAt: Schema.DateTimeUtcFromSelf,
}) {}

/** No such project; also what a caller of another project is told. */
export class ProjectNotFound extends Schema.TaggedError<ProjectNotFound>()("ProjectNotFound", {
  project: Schema.String,
}) {}
