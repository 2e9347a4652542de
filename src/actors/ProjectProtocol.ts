import * as ClusterSchema from "@effect/cluster/ClusterSchema"
import * as Entity from "@effect/cluster/Entity"
import * as Rpc from "@effect/rpc/Rpc"
import { Schema } from "effect"

/** `run` names the occasion: the engine delivers a message once per run, and remembers its answer for ever. */
const occasion = {
  payload: { run: Schema.String },
  primaryKey: ({ run }: { readonly run: string }) => run,
}

/** What one project's actor is told. The entity's id is the project's handle; messages survive the death of any pod. */
export const Project = Entity.make("Project", [
  /** End uploads nobody renews: fence, give the room back, remove the bytes, forget the row. */
  Rpc.make("Sweep", occasion),
  /** Hold the counters against the books; a limit that was changed and never reached the counters is applied here. */
  Rpc.make("Reconcile", occasion),
]).annotateRpcs(ClusterSchema.Persisted, true)
