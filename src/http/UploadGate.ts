import { Context, Effect, Layer, type Scope } from "effect"
import { Settings } from "../Config.ts"
import type { ProjectHandle } from "../domain/Ids.ts"
import { held } from "../Held.ts"
import { moved, openUploads } from "../telemetry/Transfers.ts"
import { type ApiError, unavailable } from "./ApiErrors.ts"
import { makeSlots, type SlotsTaken } from "./Slots.ts"

/** How many uploads this node has open at once; what memory depends on. Projects share them as `Slots` says. */
export class UploadGate extends Context.Tag("src/http/UploadGate")<
  UploadGate,
  {
    /** Takes a slot for the project until the scope closes; refused at once when none is free for it. */
    readonly enter: (project: ProjectHandle) => Effect.Effect<void, ApiError, Scope.Scope>
  }
>() {}

const refusalOf = ({ by }: SlotsTaken): ApiError =>
  unavailable(
    by === "node"
      ? "This node has as many uploads open as it may; try again."
      : "This project has its share of the uploads that this node may have open; try again when one of them has ended.",
  )

export const layer = Layer.effect(
  UploadGate,
  Effect.map(Settings, ({ maxOpenUploads }) => {
    const slots = makeSlots(maxOpenUploads)
    const move = (by: 1 | -1) => Effect.sync(() => moved(openUploads, by))
    return UploadGate.of({
      enter: (project) =>
        Effect.zipRight(
          Effect.mapError(slots.enter(project), refusalOf),
          held(move(1), () => move(-1)),
        ),
    })
  }),
)
