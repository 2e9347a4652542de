import type { Walk } from "./walk.ts"
import { background } from "./walks/background.ts"
import { ending } from "./walks/ending.ts"
import { publishing } from "./walks/publishing.ts"
import { restoring } from "./walks/restoring.ts"

/** In this order: what restoring leaves behind is not dense any more. */
export const walks: ReadonlyArray<Walk> = [...publishing, ...ending, ...background, ...restoring]

/** A hang in these may hold its caller up for two seconds at the most. Elsewhere the limits are those of the layers. */
export const boundedHangs = ["Delete.removed:", "Upload.cleanUp:", "Publish.commit: QuotaCounters.commit"]

/** Functions whose steps are come by on the production stack alone. */
export const productionOnly = ["EventRelay.refill", "EventRelay.standingNow"]
