import { Context, Effect, Layer, type Scope } from "effect"
import { Settings } from "../Config.ts"
import { held } from "../Held.ts"
import { moved, openUploads } from "../telemetry/Transfers.ts"
import { type ApiError, unavailable } from "./ApiErrors.ts"

/** How many uploads this node has open at once; what memory depends on. */
export class UploadGate extends Context.Tag("src/http/UploadGate")<
  UploadGate,
  {
    /** Takes a place until the scope closes; refused at once when none is free. */
    readonly enter: Effect.Effect<void, ApiError, Scope.Scope>
  }
>() {}

export const layer = Layer.effect(
  UploadGate,
  Effect.map(Settings, ({ maxOpenUploads }) => {
    let open = 0
    const move = (by: 1 | -1) =>
      Effect.sync(() => {
        open += by
        moved(openUploads, by)
      })
    return UploadGate.of({
      enter: Effect.suspend(() =>
        open >= maxOpenUploads
          ? Effect.fail(unavailable("This node has as many uploads open as it may; try again."))
          : held(move(1), () => move(-1)),
      ),
    })
  }),
)
