import { Context, Effect, Layer, Metric, type Scope } from "effect"
import { Settings } from "../Config.ts"
import { type ApiError, unavailable } from "./ApiErrors.ts"

const openUploads = Metric.gauge("artifact_open_uploads", { description: "Uploads on their way through this node." })

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
      Effect.suspend(() => {
        open += by
        return Metric.set(openUploads, open)
      })
    return UploadGate.of({
      enter: Effect.suspend(() =>
        open >= maxOpenUploads
          ? Effect.fail(unavailable("This node has as many uploads open as it may; try again."))
          : Effect.acquireRelease(move(1), () => move(-1)),
      ),
    })
  }),
)
